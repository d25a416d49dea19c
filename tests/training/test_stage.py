"""A stage that is stopped anywhere goes on as if nothing had happened: with as many ranks to the bit, with another
number from the same weights, moments and place in the data. Real DeepSpeed engines and checkpoints, without Ray."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from driftline.config import TrainingConfig
from driftline.errors import TrainingError
from driftline.training.checkpoints import Progress, Snapshot, check, read, write
from driftline.training.stage import Stage, Worker, fit_stage
from tests.training.ranks import run_ranks

ROWS, WIDTH, BATCH = 48, 7, 4
TOLERANCE = 1e-6
"""Between worlds of different size fp32 sums are formed in another order."""


@dataclass(frozen=True)
class Rows:
    """Batch ``n`` of an epoch is rows ``4 n`` to ``4 n + 3`` of a fixed permutation; ranks share a global batch."""

    data: torch.Tensor
    seen: list[list[int]]
    batch: int = BATCH

    def batches_per_epoch(self, world_size: int = 1) -> int:
        return ROWS // (self.batch * world_size)

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1, start: int = 0) -> Iterator[Any]:
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(epoch))
        for number in range(start, self.batches_per_epoch(world_size)):
            first = (number * world_size + rank) * self.batch
            rows = order[first : first + self.batch]
            self.seen.append(rows.tolist())
            yield rows, self.data[rows]


def stage(seen: list[list[int]], dropout: float = 0.3, batch: int = BATCH, poison: int | None = None) -> Stage:
    """Regression of the row's sum; ``poison`` is a row whose data is not a number."""
    torch.manual_seed(5)
    module = nn.Sequential(nn.Linear(WIDTH, 13), nn.Tanh(), nn.Dropout(dropout), nn.Linear(13, 1))
    data = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(6))
    if poison is not None:
        data[poison] = torch.nan

    def validate() -> dict[str, float]:
        with torch.no_grad():
            return {"fit": -float((module(data[:8]).squeeze() - data[:8].sum(1)).square().mean())}

    return Stage(
        name="ranker", module=module, sampler=Rows(data, seen, batch),
        loss=lambda engine, batch: (engine(batch[1]).squeeze(-1) - batch[1].sum(1)).square().mean(),
        counts=lambda batch: {"rows": len(batch[0])}, ids=lambda batch: [f"row-{row}" for row in batch[0].tolist()],
        validate=validate, epochs=3, learning_rate=0.01, batch_size=batch,
    )  # fmt: skip


def training(zero_stage: int, accumulation: int = 1, every_steps: int = 5) -> TrainingConfig:
    sharded = {"persistence_threshold": 0} if zero_stage == 3 else {}
    return TrainingConfig.model_validate(
        {
            "warmup_steps": 2,
            "validate_every_epochs": 1,
            "checkpoints": {"every_steps": every_steps},
            "deepspeed": {"zero_stage": zero_stage, "gradient_accumulation_steps": accumulation, **sharded},
        }
    )


class Stopped(Exception):
    """The test pulls the plug."""


def worker(rank: int, world_size: int, folder: Path, stop_after: int | None = None) -> Worker:
    """Checkpoints go to ``folder/<number>``; after ``stop_after`` of them the process is as good as dead."""
    saved = 0

    def save(snapshot: Snapshot, engine: Any, metrics: dict[str, float]) -> None:
        nonlocal saved
        share = folder / f"{saved}-{rank}"
        write(share, snapshot, engine, rank)
        shutil.copytree(share, folder / str(saved), dirs_exist_ok=True)  # as Ray merges them
        dist.barrier()
        saved += 1
        if saved == stop_after:
            raise Stopped

    return Worker(rank, world_size, save=save)


@dataclass(frozen=True)
class Run:
    """One training of the stage, from checkpoint ``resume`` on; what comes out lies in ``folder``."""

    folder: Path
    zero_stage: int
    accumulation: int = 1
    dropout: float = 0.0
    batch: int = BATCH
    stop_after: int | None = None
    resume: int | None = None
    average: float = 0.0

    def __call__(self, rank: int, world_size: int) -> None:
        seen: list[list[int]] = []
        snapshot, checkpoint = Snapshot(Progress(world_size=world_size)), None
        if self.resume is not None:
            checkpoint = self.folder / str(self.resume)
            check(checkpoint)
            snapshot = read(checkpoint, rank)
        to = self.folder / ("again" if self.resume is not None else "")
        fitted = replace(stage(seen, self.dropout, self.batch), average=self.average)
        job = worker(rank, world_size, to, self.stop_after)
        try:
            fit_stage(fitted, training(self.zero_stage, self.accumulation), job, snapshot, 3, checkpoint)
        except Stopped:
            return
        if rank == 0:
            torch.save((snapshot.done["ranker"], snapshot.progress.finished, seen), self.folder / "result.pt")


def run_all(rank: int, world_size: int, runs: list[Run]) -> None:
    for run in runs:
        run(rank, world_size)


def result(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, float]], list[list[int]]]:
    loaded: tuple[dict[str, torch.Tensor], dict[str, dict[str, float]], list[list[int]]] = torch.load(
        folder / "result.pt", weights_only=True
    )
    return loaded


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("zero_stage", "accumulation"), [(0, 1), (1, 1), (2, 1), (3, 1), (2, 2)])
def test_stopped_inside_an_epoch_it_goes_on_to_the_bit(
    one_rank: None, zero_stage: int, accumulation: int, tmp_path: Path
) -> None:
    """12 batches an epoch, saved every 5 optimiser steps and with each validation. Without accumulation the second
    checkpoint lies at step 10; with two batches a step the first one lies at the tenth batch."""
    stop = 2 if accumulation == 1 else 1
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    Run(whole, zero_stage, accumulation, dropout=0.3)(0, 1)
    Run(halted, zero_stage, accumulation, dropout=0.3, stop_after=stop)(0, 1)
    assert read(halted / str(stop - 1)).progress.position == 10
    Run(halted, zero_stage, accumulation, dropout=0.3, resume=stop - 1)(0, 1)
    expected, figures, rows = result(whole)
    found, figures_after, rows_after = result(halted)
    assert_close(found, expected, 0)
    assert figures_after == figures
    assert rows_after == rows[10:]


def test_the_average_of_the_epochs_is_kept_goes_on_to_the_bit_and_disturbs_nothing(
    one_rank: None, tmp_path: Path
) -> None:
    """Three epochs with checkpoints 2, 5 and 8 at their ends; more than .9 of itself would be the mean of ten."""
    plain, averaged, halted = tmp_path / "plain", tmp_path / "averaged", tmp_path / "halted"
    Run(plain, 2)(0, 1)
    Run(averaged, 2, average=0.9)(0, 1)
    ends, last = [read(plain / str(number)).weights for number in (2, 5, 8)], read(averaged / "8")
    assert_close(last.weights, ends[-1], 0)
    assert_close(last.average, {name: sum(end[name] for end in ends) / 3 for name in ends[0]}, TOLERANCE)
    assert last.progress.finished != read(plain / "8").progress.finished
    Run(halted, 2, average=0.9, stop_after=5)(0, 1)
    assert read(halted / "4").progress.position == 10
    Run(halted, 2, average=0.9, resume=4)(0, 1)
    assert_close(result(halted)[0], result(averaged)[0], 0)
    assert result(halted)[1] == result(averaged)[1]


ZERO_STAGES = (0, 1, 2, 3)
BATCH_OF = {1: 2 * BATCH, 2: BATCH}
"""By ranks: two ranks with batches of 4 and one with batches of 8 see the same rows in each step."""


@pytest.fixture(scope="module")
def changed_worlds(one_rank: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole runs by one and by two ranks, and runs that one begins and two end, and the other way round."""
    root = tmp_path_factory.mktemp("worlds")

    def runs(ranks: int, name: str, **options: Any) -> list[Run]:
        return [Run(root / f"{name}-{zero}", zero, batch=BATCH_OF[ranks], **options) for zero in ZERO_STAGES]

    run_all(0, 1, [*runs(1, "whole-1"), *runs(1, "1-to-2", stop_after=2)])
    inside = Run(root / "inside", 2, stop_after=1)
    accumulated = Run(root / "accumulated", 2, accumulation=2, stop_after=1)
    accumulated(0, 1)
    by_two = [*runs(2, "whole-2"), *runs(2, "2-to-1", stop_after=2), *runs(2, "1-to-2", resume=1), inside]
    by_two.append(replace(accumulated, stop_after=None, resume=0))
    run_ranks(2, run_all, by_two)
    run_all(0, 1, [*runs(1, "2-to-1", resume=1), replace(inside, stop_after=None, resume=0)])
    return root


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", ZERO_STAGES)
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_ranks_goes_on_with_weights_and_moments(
    zero_stage: int, before: int, after: int, changed_worlds: Path
) -> None:
    """Without dropout a run comes out the same whoever finishes it: it was stopped after the first of three epochs."""
    halted = changed_worlds / f"{before}-to-{after}-{zero_stage}"
    at = read(halted / "1").progress
    assert (at.epoch, at.position, at.world_size) == (1, 0, before)
    found, _, _ = result(halted)
    for world_size in (1, 2):
        expected, _, _ = result(changed_worlds / f"whole-{world_size}-{zero_stage}")
        assert_close(found, expected, TOLERANCE)


@pytest.mark.slow
def test_inside_an_epoch_another_number_of_ranks_reads_what_is_left_of_it(changed_worlds: Path) -> None:
    """Two ranks stop after 5 batches each, 40 of 48 rows: one rank reads the last two batches of that epoch."""
    halted = changed_worlds / "inside"
    assert read(halted / "0").progress.position == 5
    rows = result(halted)[2]
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).tolist()
    assert rows[:2] == [order[40:44], order[44:]]
    assert len(rows) == 2 + 12 + 12


@pytest.mark.slow
def test_another_number_of_ranks_begins_at_a_whole_optimiser_step(changed_worlds: Path) -> None:
    """One rank stops after 10 batches, 5 optimiser steps: 5 batches each for two ranks, which would be 2.5 steps. They
    begin at the second step, with batch 4 of each: rows 32 to 35 are rank 0's."""
    halted = changed_worlds / "accumulated"
    assert read(halted / "0").progress.position == 10
    rows = result(halted)[2]
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).tolist()
    assert rows[0] == order[32:36]
    assert len(rows) == 2 + 6 + 6


def test_checkpoints_know_a_file_that_is_not_what_was_written(one_rank: None, tmp_path: Path) -> None:
    Run(tmp_path, 2, stop_after=1)(0, 1)
    checkpoint = tmp_path / "0"
    check(checkpoint)
    moments = checkpoint / "current" / "moments.safetensors"
    content = bytearray(moments.read_bytes())
    content[-3] ^= 1
    moments.write_bytes(content)
    with pytest.raises(TrainingError, match=r"0 is corrupt: current/moments.safetensors is not what rank 0 wrote"):
        check(checkpoint)
    moments.unlink()
    with pytest.raises(TrainingError, match=r"incomplete or unreadable .*moments\.safetensors"):
        check(checkpoint)


def test_every_rank_checks_its_share_of_the_lists(one_rank: None, tmp_path: Path) -> None:
    Run(tmp_path, 2, stop_after=1)(0, 1)
    state = tmp_path / "0" / "state.json"
    state.write_text(state.read_text().replace('"world_size": 1', '"world_size": 4'))
    (tmp_path / "0" / "files-0.json").write_text("{}")
    (tmp_path / "0" / "files-2.json").write_text("{}")
    check(tmp_path / "0", rank=0, world_size=2)
    with pytest.raises(TrainingError, match=r"incomplete or unreadable .*files-1\.json"):
        check(tmp_path / "0", rank=1, world_size=2)


def test_a_loss_that_is_no_number_names_the_batch(one_rank: None, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        fit_stage(stage([], poison=17), training(2), worker(0, 1, tmp_path), Snapshot(Progress()), 3)
    message, details = str(caught.value), caught.value.details
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).tolist()
    number = order.index(17) // BATCH
    batch = [f"row-{row}" for row in order[number * BATCH : (number + 1) * BATCH]]
    assert f"loss is nan at epoch 1, step {number + 1} on rank 0; lower the learning rate" in message
    assert message.endswith(f"look at the batch: {', '.join(batch)}")
    assert details["ids"] == batch
    assert (details["stage"], details["epoch"], details["step"], details["rank"]) == ("ranker", 1, number + 1, 0)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Progress("text", best_metric=0.9), Progress("ranker")),
        (Progress("ranker", best_metric=-5.0), Progress("ranker", best_metric=-4.0)),
        (Progress("ranker", best_metric=1e9), Progress("drift", best_metric=-1e9)),
        (Progress("drift", best_metric=0.1), Progress("finished")),
        (Progress(), Progress("domain")),
    ],
)
def test_a_later_stage_is_kept_before_an_earlier_one_then_the_better_figure(earlier: Progress, later: Progress) -> None:
    assert earlier.score() < later.score()
