"""Fine-tune and train a recommender, and leave a bundle.

python jobs/train.py --config jobs/configs/ml100k.yaml --set training.epochs=2
python jobs/train.py --config jobs/configs/ml100k.yaml --dry-run
ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- python jobs/train.py --config FILE
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftline.cli import run_job
from driftline.config import Config, load_config
from driftline.terminal import working


def main(
    config: Annotated[Path, typer.Option(help="YAML file; see jobs/configs/.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, for example training.epochs=2.")] = None,
    result: Annotated[
        Path | None, typer.Option(help="Also write run name, bundle and figures (or the plan) to this JSON file.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(help="Only say what it would take: parameters, memory by ZeRO stage, steps, FLOPs."),
    ] = False,
    resume: Annotated[str | None, typer.Option(help="Go on with this run from its newest checkpoint.")] = None,
) -> None:
    """Train on Ray Train + DeepSpeed: text tower (LoRA), ranking model, drift model; then write a bundle."""
    loaded = load_config(config, set_ or [], for_run=True)
    console = Console()
    if dry_run:
        plan(loaded, console, result)
        return
    from driftline.training.trainer import train

    done = train(loaded, console, resume)
    console.print(f"\nbundle  [bold]{done.bundle}[/bold]", soft_wrap=True, highlight=False)
    console.print(f"alias   {done.alias}: {done.reason}", highlight=False)
    for name, value in sorted(done.metrics.items()):
        console.print(f"  {name:<28} {value:.4f}", highlight=False)
    write(result, json.dumps(asdict(done), default=str, indent=2))


def plan(config: Config, console: Console, result: Path | None) -> None:
    """Say what a run would do and take."""
    with working(console, "dry run") as tell:
        from driftline.training.dry_run import dry_run
        from driftline.training.dry_run_report import as_json, render

        run = dry_run(config, tell)
    render(run, console)
    write(result, as_json(run))


def write(result: Path | None, text: str) -> None:
    """Write the result file where one is wanted."""
    if result is not None:
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_job(main)
