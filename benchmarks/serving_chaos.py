"""What clients notice when parts of the service are killed, restarted, filled up or swapped under load.

python -m benchmarks.serving_chaos --bundle DIR [--faults ranker,router]

Two tenants write events and ask for lists while one thing after another breaks. Then every acknowledged event is looked
up in the database. Every call of ``driftline.client``, which comes again, must succeed in the end; every single answer
must be right or a clear error. Needs a PostgreSQL server's programs, and the right to mount a small file system.
"""

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from benchmarks.chaos.faults import FAULTS, inflicted
from benchmarks.chaos.places import TENANTS, Kind, opened
from benchmarks.chaos.report import figures, plot, show
from benchmarks.chaos.traffic import Course, Traffic, own_item
from rich.console import Console

import driftline
from driftline.cli import run_job
from driftline.client import Client, Item
from driftline.errors import DriftlineError
from driftline.evaluation.provenance import provenance

RESULTS: Final = Path(__file__).resolve().parent / "results" / "serving-chaos.json"
SETTLE_S: Final = 10.0


def main(
    bundle: Annotated[Path, typer.Option(help="Directory of the bundle to serve.")],
    faults: Annotated[str, typer.Option(help="Which, separated by commas.")] = ",".join(FAULTS),
    out: Annotated[
        Path, typer.Option(help="JSON file; runs of other faults stay in it. The plot lies beside it.")
    ] = RESULTS,
) -> None:
    """Break one thing after another under load, and count."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    console = Console(highlight=False)
    names = faults.split(",")
    if unknown := sorted(set(names) - set(FAULTS)):
        raise DriftlineError(f"--faults {','.join(unknown)}: there are {', '.join(FAULTS)}")
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for kind in dict.fromkeys(FAULTS[name][0] for name in names):
        of_kind = [name for name in names if FAULTS[name][0] == kind]
        with TemporaryDirectory(prefix="driftline-chaos-") as folder:
            run = _run(kind, of_kind, bundle, Path(folder), console)
        show(run, console)
        found = {key: old for key, old in found.items() if not _names(old) & set(of_kind)}
        found[f"{kind}: {', '.join(of_kind)}"] = run | provenance({"bundle": bundle.name, "settle_s": SETTLE_S}, 7)
        out.write_text(json.dumps(found, indent=2) + "\n")
        plot(found, out.with_suffix(".png"))
    console.print(f"figures {out}, plot {out.with_suffix('.png')}")
    if any(run["lost_events"] or run["wrong_tenant_rows"] or run["wrong_answers"] for run in found.values()):
        sys.exit(1)


def _names(run: dict[str, Any]) -> set[str]:
    return {fault["name"] for fault in run["faults"]}


def _run(kind: Kind, names: list[str], bundle: Path, folder: Path, console: Console) -> dict[str, Any]:
    items = driftline.load(bundle).item_ids
    with opened(kind, _copied(bundle, folder), folder) as place:
        for tenant in TENANTS:
            with Client(place.url, place.keys[tenant]) as client:
                client.put_item(Item(item_id=own_item(tenant), title="A title of one tenant", categories=["Drama"]))
        course = Course()
        traffic = [
            Traffic(tenant, [other for other in TENANTS if other != tenant], place.url, key, items, course)
            for tenant, key in place.keys.items()
        ]
        for each in traffic:
            each.start()
        outcomes = []
        try:
            for name in names:
                time.sleep(SETTLE_S)
                console.print(f"{course.now:.0f} s: {name}")
                outcomes.append(inflicted(name, place, course))
                console.print(f"{course.now:.0f} s: whole again, {outcomes[-1].recovery_s:.1f} s after it was mended")
            time.sleep(SETTLE_S)
        finally:
            for each in traffic:
                each.stop()
        time.sleep(1.0)  # served lists are recorded within half a second
        return figures(course, outcomes, traffic, place.database)


def _copied(bundle: Path, folder: Path) -> Path:
    """The bundle in a folder that others can be promoted from."""
    copy = folder / "bundles" / bundle.name
    shutil.copytree(bundle, copy)
    return copy


if __name__ == "__main__":
    run_job(main)
