"""Score many users offline.

python jobs/recommend.py --bundle DIR --users users.jsonl --out lists.parquet

Each line of the users file: {"user_id": "u1", "history": ["50", "181"]}, oldest first;
"times_s": [881250949, 881250950] beside it says when, "types": ["view", "cart"] what, "now_s": 881250960 when the list
is asked for, "attributes": {"occupation": "nurse"} of whom; other keys are errors.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

import driftline
from driftline.cli import run_job
from driftline.ranking.bulk import BATCH_USERS, check_format, read_users, recommend_users, write_lists


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle directory.")],
    users: Annotated[
        Path, typer.Option(help="JSONL, one user per line: user_id and history (item ids, oldest first).")
    ],
    out: Annotated[Path, typer.Option(help="Lists: .parquet, .csv or .jsonl.")],
    k: Annotated[int, typer.Option(help="Items per user.", min=1)] = 10,
) -> None:
    """Write the top k of every user, with score, policy and P(drift)."""
    console = Console()
    check_format(out)
    model = driftline.load(bundle)
    rows = read_users(users)
    batches = range(0, len(rows), BATCH_USERS)
    lists = [
        recommend_users(model.recommend_batch, rows[start : start + BATCH_USERS], k)
        for start in track(batches, description="users", console=console, transient=True)
    ]
    written = write_lists(lists, out)
    console.print(f"{written:,} rows for {len(rows):,} users in {out}", highlight=False)


if __name__ == "__main__":
    run_job(main)
