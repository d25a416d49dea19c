"""Fine-tune and train a recommender, and leave a bundle.

python jobs/train.py --config jobs/configs/ml100k.yaml --set training.epochs=2
ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- python jobs/train.py --config FILE
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftline.cli import run_job
from driftline.config import load_config


def main(
    config: Annotated[Path, typer.Option(help="YAML file; see jobs/configs/.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, for example training.epochs=2.")] = None,
    result: Annotated[
        Path | None, typer.Option(help="Also write run name, bundle and figures to this JSON file.")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run from its newest checkpoint.")] = None,
) -> None:
    """Train on Ray Train + DeepSpeed: text tower (LoRA), ranking model, drift model; then write a bundle."""
    loaded = load_config(config, set_ or [], for_run=True)
    from driftline.training.trainer import train

    console = Console()
    done = train(loaded, console, resume)
    console.print(f"\nbundle  [bold]{done.bundle}[/bold]", soft_wrap=True, highlight=False)
    console.print(f"alias   {done.alias}: {done.reason}", highlight=False)
    for name, value in sorted(done.metrics.items()):
        console.print(f"  {name:<28} {value:.4f}", highlight=False)
    if result is not None:
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps(asdict(done), default=str, indent=2))


if __name__ == "__main__":
    run_job(main)
