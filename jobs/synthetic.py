"""Write an event log of any size with a known truth.

python jobs/synthetic.py --out /data/synthetic --events 10000000 --users 200000 --items 5000 --seed 7
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftline.cli import run_job
from driftline.events.synthetic import write_synthetic_log
from driftline.terminal import counting


def main(
    out: Annotated[Path, typer.Option(help="Folder to write; must not hold a log yet.")],
    events: Annotated[int, typer.Option(help="Events in all.")] = 10_000_000,
    users: Annotated[int, typer.Option(help="People; their activity is skewed.")] = 200_000,
    items: Annotated[int, typer.Option(help="Items; a multiple of --tastes.")] = 5_000,
    tastes: Annotated[int, typer.Option(help="Clusters of items; every user likes one.")] = 20,
    drifting: Annotated[float, typer.Option(help="Share of users whose taste changes once.")] = 0.1,
    seed: Annotated[int, typer.Option(help="The same seed writes the same rows.")] = 0,
) -> None:
    """Write Parquet files of events, an item table, and who changed when."""
    console = Console()
    with counting(console, "writing events") as tell:
        log = write_synthetic_log(out, events, users, items, seed, tastes=tastes, drifting_share=drifting, tell=tell)
    for name, path in (("events", log.events), ("items", log.items), ("truth", log.truth)):
        console.print(f"{name:<7} {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_job(main)
