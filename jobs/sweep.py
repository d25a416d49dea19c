"""Search hyper-parameters on Ray Tune, and leave a report, the best configuration, and its bundle as challenger.

python jobs/sweep.py --config jobs/configs/sweep-lora.yaml --set search.trials=8
ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- python jobs/sweep.py --config FILE
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftline.cli import run_job
from driftline.config import default_storage
from driftline.errors import ConfigError
from driftline.sweep.study import load_sweep, run_sweep, stored_sweep


def main(
    config: Annotated[Path | None, typer.Option(help="Sweep file; see jobs/configs/sweep-*.yaml.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override, for example search.trials=8 or base.training.epochs=10."),
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this interrupted sweep, instead of --config.")] = None,
    storage: Annotated[
        Path | None,
        typer.Option(help="Storage root of the sweep to resume. Default: $DRIFTLINE_HOME, or ~/.driftline."),
    ] = None,
    bundle: Annotated[
        bool, typer.Option(help="Train the best configuration to a bundle and register it as challenger.")
    ] = True,
) -> None:
    """Try configurations, stop the bad ones early, and say which is best."""
    console = Console()
    if (config is None) == (resume is None):
        raise ConfigError(["give either --config FILE (a new sweep) or --resume NAME (an interrupted one)"], "sweep.py")
    if config is not None:
        sweep = load_sweep(config, set_ or [], for_run=True)
    elif set_:
        raise ConfigError(["--set changes a new sweep; an interrupted one goes on as it was"], "sweep.py")
    else:
        assert resume is not None
        sweep = stored_sweep(storage or default_storage(), resume)
    done = run_sweep(sweep, console, resume, bundle)
    console.print(
        f"\nbest    trial {done.best.id}: {sweep.metric} {done.best.best:.4f} at epoch {done.best.best_epoch}",
        highlight=False,
    )
    for key, value in done.best.best_values.items():
        console.print(f"  {key:<28} {value}", highlight=False)
    console.print(f"config  {done.folder / 'best.yaml'}", soft_wrap=True, highlight=False)
    console.print(f"report  {done.folder / 'report.html'}", soft_wrap=True, highlight=False)
    if done.bundle is not None:
        console.print(f"bundle  [bold]{done.bundle}[/bold]", soft_wrap=True, highlight=False)
        console.print(f"alias   {done.alias}: {done.reason}", highlight=False)


if __name__ == "__main__":
    run_job(main)
