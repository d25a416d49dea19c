"""Write the histories of a large log once, for training to stream (data.ingest: ray-data).

python jobs/ingest.py --config FILE
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftline.cli import run_job
from driftline.config import load_config
from driftline.errors import ConfigError


def main(
    config: Annotated[Path, typer.Option(help="YAML file with data.ingest: ray-data; see jobs/configs/.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override, for example data.interactions=DIR.")
    ] = None,
) -> None:
    """Read, validate, shuffle by user, order and split an event log with Ray Data. What is there already stays."""
    loaded = load_config(config, set_ or [], for_run=True)
    if loaded.data.ingest != "ray-data":
        raise ConfigError(
            [f"data.ingest={loaded.data.ingest}: nothing to write; set data.ingest=ray-data"], str(config)
        )
    from driftline.sequences.dataset import ingest_dataset
    from driftline.training.trainer import connect

    console = Console()
    connect()
    done = ingest_dataset(loaded, console)
    for name, count in done.report.items():
        console.print(f"{name:<11} {count:>15,}", highlight=False)
    console.print(f"histories   {done.folder}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_job(main)
