"""Run a job on a Ray cluster of several nodes on this machine, by ``ray job submit``, and keep all that it leaves.

python jobs/local_cluster.py --out DIR -- python jobs/train.py --config jobs/configs/demo.yaml
python jobs/local_cluster.py --workers 3 --out DIR -- python jobs/sweep.py --config jobs/configs/sweep-lora.yaml

What works here works on a real cluster: the job sees an upload of this directory, and its workers run on other nodes.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftline.cli import run_job
from driftline.local_cluster import local_cluster
from driftline.samples import home

ROOT = Path(__file__).resolve().parents[1]


def main(
    command: Annotated[list[str], typer.Argument(help="The job, after --: python jobs/train.py --config FILE …")],
    out: Annotated[
        Path, typer.Option(help="DRIFTLINE_HOME of the nodes: bundles, runs and reports come here, logs too.")
    ],
    workers: Annotated[int, typer.Option(min=1, help="Worker nodes beside the head.")] = 2,
    cpus: Annotated[int, typer.Option(min=1, help="Logical CPUs of each; more than the machine has are fine.")] = 4,
) -> None:
    """Start a head and worker nodes as separate raylets, submit a job, and end all of them with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the nodes end with us
    console, out = Console(), out.expanduser().absolute()
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    share_samples(out)
    with local_cluster(workers, cpus, home=out, logs=logs, tell=console.print) as cluster:
        with (logs / "job.log").open("w") as log:

            def hear(line: str) -> None:
                print(line, file=log, flush=True)
                console.print(line, markup=False, highlight=False, soft_wrap=True)

            failed = cluster.submit(command, ROOT, hear)
        (logs / "placements.json").write_text(json.dumps(cluster.placements(), indent=1))
    console.print(f"\nleft in {out}: {', '.join(sorted(path.name for path in out.iterdir()))}", soft_wrap=True)
    sys.exit(failed)


def share_samples(out: Path) -> None:
    """Fetched samples are used where they are."""
    for folder in ("data", "models"):
        if (home() / folder).is_dir() and not (out / folder).exists():
            (out / folder).symlink_to(home() / folder)


if __name__ == "__main__":
    run_job(main)
