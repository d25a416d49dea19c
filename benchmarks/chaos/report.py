"""What a course comes to: counted, looked up in the database, printed, drawn."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos.faults import Outcome
from benchmarks.chaos.traffic import Course, Traffic, own_item
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from driftline.state.store import Store
from driftline.state.tables import events, served

POPULAR: Final = "list, popular items"
RIGHT: Final = ("events", "list")
COLOURS: Final = {"right": "tab:blue", "popular": "tab:orange", "errors": "tab:red"}
EXAMPLES: Final = 5


def figures(course: Course, outcomes: list[Outcome], traffic: list[Traffic], database: str) -> dict[str, Any]:
    """Everything that is reported of one place."""
    per_s = {kind: [0] * (int(course.now) + 1) for kind in ("right", "popular", "errors")}
    for at, verdict in course.answers:
        per_s["popular" if verdict == POPULAR else "right" if verdict in RIGHT else "errors"][int(at)] += 1
    tenants = {each.tenant: _of_tenant(each, traffic, database) for each in traffic}
    return {
        "faults": [outcome.described() for outcome in outcomes],
        "tenants": tenants,
        "lost_events": sum(each["lost_events"] for each in tenants.values()),
        "wrong_tenant_rows": sum(each["wrong_tenant_rows"] for each in tenants.values()),
        "wrong_answers": len(course.wrong),
        "wrong_examples": course.wrong[:EXAMPLES],
        "single_answers": dict(Counter(verdict for _, verdict in course.answers).most_common()),
        "per_s": per_s,
    }


def _of_tenant(one: Traffic, traffic: list[Traffic], database: str) -> dict[str, Any]:
    store = Store(database)
    with store.engine.begin() as connection:
        kept = set(connection.scalars(select(events.c.event_id).where(events.c.tenant == one.tenant)))
        lists = connection.scalars(select(served.c["items"]).where(served.c.tenant == one.tenant)).all()
    store.close()
    foreign = [own_item(other.tenant) for other in traffic if other is not one]
    return {
        "acknowledged_events": len(one.acknowledged),
        "lost_events": len(one.acknowledged - kept),
        "wrong_tenant_rows": sum(not event_id.startswith(f"{one.tenant}-") for event_id in kept)
        + sum(any(item in str(shown) for item in foreign) for shown in lists),
        "recorded_lists": len(lists),
        "calls": dict(one.calls),
        "slowest_call_s": round(one.slowest_s, 1),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the figures of one place."""
    table = Table("fault", "cause gone after", "whole again after", "right", "popular", "errors, each clear")
    for fault in found["faults"]:
        answers = Counter(fault["answers"])
        errors = {verdict: number for verdict, number in answers.items() if verdict not in (*RIGHT, POPULAR)}
        table.add_row(
            fault["name"],
            f"{fault['mended_at'] - fault['began_at']:.1f} s",
            f"{fault['recovery_s']:.1f} s",
            str(answers["list"] + answers["events"]),
            str(answers[POPULAR]),
            "\n".join(f"{number} {verdict}" for verdict, number in errors.items()) or "none",
        )
    console.print(table)
    for tenant, row in found["tenants"].items():
        console.print(
            f"{tenant}: {row['acknowledged_events']} events acknowledged, {row['lost_events']} lost, "
            f"{row['wrong_tenant_rows']} rows of another tenant, slowest call {row['slowest_call_s']} s"
        )
    console.print(f"wrong answers: {found['wrong_answers']}")
    for example in found["wrong_examples"]:
        console.print(f"wrong: {example}")


def plot(places: dict[str, dict[str, Any]], path: Path) -> None:
    """Answers per second of the clients that never repeat, one panel for each place, the faults marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(places)), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(len(places), squeeze=False)[:, 0], places.items(), strict=True):
        for kind, numbers in found["per_s"].items():
            axes.step(range(len(numbers)), numbers, where="post", color=COLOURS[kind], linewidth=0.9, label=kind)
        top = 1.2 * max(1, *(max(numbers) for numbers in found["per_s"].values()))
        for fault in found["faults"]:
            axes.axvspan(fault["began_at"], fault["mended_at"], color="0.75", linewidth=0)
            axes.axvspan(fault["mended_at"], fault["whole_at"], color="0.9", linewidth=0)
            axes.axvline(fault["began_at"], color="black", linewidth=0.8, linestyle=":")
            axes.text(fault["began_at"], 0.97 * top, f" {fault['name']}", fontsize=8, va="top")
        axes.set(title=name, ylabel="answers per second", xlim=(0, len(found["per_s"]["right"])), ylim=(0, top))
        axes.legend(loc="lower right", fontsize=8)
    axes.set_xlabel("seconds; grey: the fault lasts (dark), its consequences last (light)")
    figure.savefig(path, dpi=120)
