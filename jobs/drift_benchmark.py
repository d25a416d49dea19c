"""The drift benchmark: streams of users that nothing was trained on, with an exact change or none.

python jobs/drift_benchmark.py --bundle DIR --out DIR                      three tracks, five seeds
python jobs/drift_benchmark.py --bundle DIR --out DIR --tracks X --seeds 1     a reduced run, minutes on two cores

Every seed trains an item table and an encoder of its own, and every (seed, track) is a Ray task. What is finished lies
in --out and is not run again: start the same command once more to go on, or with more seeds to add some. Needs river:
pip install 'driftline[benchmark]'.
"""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

import driftline
from driftline.cli import run_job
from driftline.drift.benchmark.downstream import REPLAYED
from driftline.drift.benchmark.report import bar_table, write_report
from driftline.drift.benchmark.storage import Storage
from driftline.drift.benchmark.trial import Size
from driftline.drift.benchmark.world import World
from driftline.drift.streams import Track
from driftline.errors import ConfigError
from driftline.evaluation.provenance import provenance
from driftline.sequences.dataset import load_dataset
from driftline.terminal import counting, working
from driftline.training.drift_trials import run_trials


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle directory: gives the data, the text vectors and the settings.")],
    out: Annotated[Path, typer.Option(help="Folder for the report and everything that is finished.")],
    tracks: Annotated[str, typer.Option(help="X: shuffled order. N: natural order. G: a switch of genre.")] = "X,N,G",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, …: encoder, streams, orders.")] = 5,
    pairs: Annotated[int, typer.Option(min=10, help="Pairs of a drifted and a steady stream, per seed.")] = 200,
    parallel: Annotated[int, typer.Option(min=1, help="Tasks at once on this machine; a cluster has its own.")] = 2,
) -> None:
    """Measure every detector on the same streams, at the same rate of false alarms."""
    console, storage, size = Console(), Storage(out.absolute()), Size(pairs=pairs)
    chosen = [cast(Track, track) for track in tracks.split(",")]
    if not set(chosen) <= {"X", "N", "G"}:
        raise ConfigError([f"--tracks {tracks}: give X, N, G, or several with commas"], "drift_benchmark.py")
    model = driftline.load(bundle)
    config = model.config
    storage.claim(model.version, size)
    world = World.of(load_dataset(config), config, model.contents.text_vectors_NT)
    every = [(track, seed) for seed in range(seeds) for track in chosen]
    judge = model.judge
    todo = [one for one in every if not storage.whole(*one, judged=judge is not None)]
    if todo:
        with counting(console, f"trials ({len(every) - len(todo)} finished before)") as tell:
            run_trials(storage, world, judge, todo, size, parallel, tell)
    trials = {track: [storage.trial(track, seed) for seed in range(seeds)] for track in chosen}
    replays = {track: [storage.replay(track, seed) for seed in range(seeds)] for track in chosen if track in REPLAYED}
    opinions = {track: [storage.opinions(track, seed) for seed in range(seeds)] for track in chosen if judge}
    source = provenance(config.model_dump(mode="json"), seeds - 1)
    with working(console, "resampling users"):
        report = write_report(trials, replays, storage.folder, source, opinions)
    if report.bars:
        console.print(bar_table(report.bars))
    for line in report.of_the_judge():
        console.print(line, highlight=False)
    console.print(f"report  {storage.folder / 'report.html'}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_job(main)
