"""Rankers come when load rises and go when it falls, and nobody gets an error but 503 with Retry-After.

python -m benchmarks.serving_autoscale --bundle DIR

A few requests at a time, then many, then a few again; delays are shortened so that this takes minutes. Writes the
figures and a plot.
"""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import typer
from rich.console import Console

from driftline.cli import run_job
from driftline.evaluation.provenance import provenance
from driftline.serving.keys import create_key
from driftline.serving.local_service import LocalService
from driftline.state.store import Store

RESULTS = Path(__file__).resolve().parent / "results"
PHASES = ((20, 1), (100, 48), (120, 1))
"""(seconds, requests under way)."""
SETTINGS = {
    "max_model_replicas": 4,
    "target_ongoing_requests": 4,
    "scale_up_seconds": 5,
    "scale_down_seconds": 20,
    "num_cpus": 0.1,
}


@dataclass
class Course:
    """What happened: (seconds, Rankers), and of each request (seconds, status)."""

    began: float = field(default_factory=time.monotonic)
    replicas: list[tuple[float, int]] = field(default_factory=list)
    answers: list[tuple[float, str]] = field(default_factory=list)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began


def main(
    bundle: Annotated[Path, typer.Option(help="Directory of the bundle to serve.")],
    out: Annotated[Path, typer.Option(help="JSON file; the plot lies beside it.")] = RESULTS / "serving-autoscale.json",
) -> None:
    """Raise the load and lower it again."""
    console = Console(highlight=False)
    with TemporaryDirectory() as folder, LocalService(bundle, Path(folder), settings=SETTINGS) as service:
        key = create_key(Store(service.database), "default", "load", ["read", "admin"])
        course = asyncio.run(_watch(service.url, key, console))
    counts = Counter(status for _, status in course.answers)
    most, last = max(count for _, count in course.replicas), course.replicas[-1][1]
    failed = sum(count for status, count in counts.items() if not status.startswith(("200", "503 with")))
    console.print(f"[bold]Rankers: 1 to {most} and back to {last}; answers {dict(counts)}; failed {failed}")
    figures = {"most_replicas": most, "last_replicas": last, "answers": counts, "failed": failed}
    figures |= {"course": course.replicas}
    out.write_text(json.dumps({"figures": figures, **provenance({"settings": SETTINGS}, 7)}, indent=2) + "\n")
    _plot(course, out.with_suffix(".png"))
    console.print(f"figures {out}, plot {out.with_suffix('.png')}")


async def _watch(url: str, key: str, console: Console) -> Course:
    course = Course()
    limits = httpx.Limits(max_connections=200)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as http:
        watching = asyncio.ensure_future(_count_replicas(http, course, console))
        for seconds, under_way in PHASES:
            end = time.monotonic() + seconds
            await asyncio.gather(*(_ask(http, course, end, number) for number in range(under_way)))
        watching.cancel()
    return course


async def _ask(http: httpx.AsyncClient, course: Course, end: float, number: int) -> None:
    while time.monotonic() < end:
        try:
            response = await http.post("/v1/recommend", json={"user_id": f"user-{number}", "k": 10})
        except httpx.TransportError as error:
            course.answers.append((course.now, type(error).__name__))
            continue
        status = str(response.status_code)
        if status == "503" and "retry-after" in response.headers:
            status = "503 with Retry-After"
            await asyncio.sleep(float(response.headers["retry-after"]))
        elif status == "200" and response.json()["degraded"]:
            status = "200, popular items"
        course.answers.append((course.now, status))


async def _count_replicas(http: httpx.AsyncClient, course: Course, console: Console) -> None:
    while True:
        response = await http.get("/v1/bundles")
        if response.status_code == 200:
            found = sum(replica["deployment"] == "Ranker" for replica in response.json()["replicas"])
            if not course.replicas or course.replicas[-1][1] != found:
                console.print(f"{course.now:.0f} s: {found} Rankers")
            course.replicas.append((course.now, found))
        await asyncio.sleep(1.0)


def _plot(course: Course, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    left = figure.subplots()
    left.step(*zip(*course.replicas, strict=True), where="post", color="black")
    left.set(xlabel="seconds", ylabel="Ranker replicas", ylim=(0, SETTINGS["max_model_replicas"] + 0.5))
    right = left.twinx()
    per_second = Counter(int(moment) for moment, status in course.answers if status == "200")
    right.plot(list(per_second), list(per_second.values()), color="tab:blue", linewidth=0.8)
    right.set_ylabel("lists per second", color="tab:blue")
    begins = 0.0
    for seconds, under_way in PHASES:
        left.axvline(begins, color="grey", linestyle=":")
        left.text(begins + 1, SETTINGS["max_model_replicas"] + 0.2, f"{under_way} at a time", fontsize=8)
        begins += seconds
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_job(main)
