"""A dry run as people read it, and as programs do."""

import json
from collections.abc import Callable
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from driftline.training.dry_run import MFU, DryRun, StagePlan
from driftline.training.memory import Memory, describe

COMPONENTS: tuple[tuple[str, Callable[[Memory], float]], ...] = (
    ("weights", lambda m: m.weights),
    ("gathered weights", lambda m: m.gathered),
    ("items and factors", lambda m: m.tables),
    ("optimiser states", lambda m: m.optimiser),
    ("gradients", lambda m: m.gradients),
    ("communication bucket", lambda m: m.bucket),
    ("activations", lambda m: m.activations),
    ("optimiser step", lambda m: m.step),
    ("framework (assumed)", lambda m: m.framework),
    ("on the host", lambda m: m.host),
)


def as_json(run: DryRun) -> str:
    """Everything, in bytes, tokens and FLOPs."""
    stages = [
        {
            **asdict(stage),
            "activations": {
                "without_checkpointing": asdict(stage.activations[False]),
                "with_checkpointing": asdict(stage.activations[True]),
            },
            "memory": {
                name: {**asdict(held), "moments": dict(held.moments), "total": held.total}
                for name, held in stage.memory.items()
            },
        }
        for stage in run.stages
    ]
    config = run.config.model_dump(mode="json")
    return json.dumps(
        {"config": config, "data": run.data, "workers": run.workers, "notes": run.notes, "stages": stages}, indent=2
    )


def render(run: DryRun, console: Console) -> None:
    """Print it."""
    training = run.config.training
    options = training.deepspeed
    place = "GPU" if training.use_gpu else "CPU"
    console.print(f"\n[bold]Dry run of {run.config.name}[/bold]: no weights loaded, nothing started", highlight=False)
    counts = ", ".join(f"{run.data[name]:,} {name}" for name in ("events", "users", "items"))
    console.print(f"data     {counts}", highlight=False)
    checkpointing = "gradient checkpointing" if options.gradient_checkpointing else "no gradient checkpointing"
    console.print(
        f"workers  {run.workers}, one {place} each; {describe(options)}, {options.precision}, {checkpointing}",
        highlight=False,
    )
    for stage in run.stages:
        _print_stage(stage, run.workers, console)
    console.print(_components(run))
    console.print(_variants(run))
    largest = max(run.stages, key=lambda stage: stage.chosen.total)
    for gb, said in largest.cards.items():
        console.print(f"a card of {gb} GB  {said} (stage {largest.name})", highlight=False, soft_wrap=True)
    for note in run.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def _print_stage(stage: StagePlan, workers: int, console: Console) -> None:
    share = stage.trainable / stage.parameters
    rows = "texts" if stage.unit == "tokens" else "sequences"
    steps = stage.steps_per_epoch * stage.epochs
    what = f"{stage.adapter}; " if stage.adapter else ""
    lines = [
        f"{what}{stage.parameters:,} parameters, {stage.trainable:,} trained ({share:.2%})",
        f"{stage.batch} {rows} of up to {stage.length} {stage.unit} a step; {stage.steps_per_epoch:,} steps an epoch, "
        f"{steps:,} in all",
        f"{stage.units_per_epoch * stage.epochs:,} {stage.unit} by {workers} workers, {stage.flops:.2g} FLOPs",
    ]
    lines += [f"{_time(hours)} on {workers} x {gpu} at {MFU:.0%} MFU" for gpu, hours in stage.hours.items()]
    saved, less = stage.activations[False].peak, stage.activations[True].peak
    if less != saved:
        lines.append(f"activations {_gb(saved)} GB, with gradient checkpointing {_gb(less)} GB")
    lines += [f"{name}: {_gb(size)} GB" for name, size in stage.inside.items() if size >= 5e6]
    for number, line in enumerate(lines):
        console.print(f"{stage.name if not number else '':<9}{line}", highlight=False, soft_wrap=True)


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


def _components(run: DryRun) -> Table:
    table = Table(title="memory of one worker, GB (10^9 bytes), as configured", title_justify="left")
    table.add_column("component", no_wrap=True)
    for stage in run.stages:
        table.add_column(stage.name, justify="right")
    for name, of in COMPONENTS:
        if any(of(stage.chosen) for stage in run.stages):
            table.add_row(name, *[_gb(of(stage.chosen)) for stage in run.stages])
    table.add_section()
    table.add_row("most at once", *[_gb(stage.chosen.total) for stage in run.stages], style="bold")
    table.add_row("which is", *[stage.chosen.peak[0] for stage in run.stages])
    return table


def _variants(run: DryRun) -> Table:
    table = Table(title="the same run under other ZeRO stages: most at once, GB", title_justify="left")
    table.add_column("variant", no_wrap=True)
    for stage in run.stages:
        table.add_column(stage.name, justify="right")
    for name in run.stages[0].memory:
        table.add_row(name, *[_gb(stage.memory[name].total) for stage in run.stages])
    return table


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f}" if size >= 5e6 else f"{size / 1e9:.4f}" if size else "-"
