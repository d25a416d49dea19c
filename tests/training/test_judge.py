"""The judge's stage: it can learn a comparison, and a run that has ended can be given one."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import driftline
from driftline.drift.judge.examples import JudgeSampler
from driftline.drift.judge.prompt import Prompt
from driftline.drift.streams import taste_distance
from driftline.models.adapters import adapter_state
from driftline.sequences.dataset import load_dataset
from driftline.training.checkpoints import Snapshot
from driftline.training.judge import judge_loss, judge_stage, validate_judge
from driftline.training.progress import Progress
from driftline.training.stage import Worker, fit_stage
from tests.tiny import tiny_config, write_data
from tests.training.ranks import run_ranks

OPTIONS = "{enabled: true, layers: 2, epochs: 1, window_items: 3, item_tokens: 8, pairs: 16, batch_examples: 8}"
JUDGE = f"drift.judge={OPTIONS}"


def test_a_few_steps_on_the_tiny_base_lower_the_loss(tiny_folder: Path) -> None:
    config = tiny_config(tiny_folder, [JUDGE])
    dataset = load_dataset(config)
    torch.manual_seed(0)
    stage = judge_stage(config, dataset, Prompt.of(config, dataset.catalog), Worker())
    assert stage.adapter.startswith("LoRA rank 16 on ")
    module: Any = stage.module
    module.answers_2H *= 50  # rows of a random head are that much shorter than those of a trained one
    batch = next(iter(stage.sampler.epoch(0)))
    assert stage.counts(batch)["prompts"] == len(stage.ids(batch)) == 8
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    before = float(judge_loss(module, batch).detach())
    for _ in range(60):
        optimizer.zero_grad()
        judge_loss(module, batch).backward()
        optimizer.step()
    after = float(judge_loss(module, batch).detach())
    assert after < 0.8 * before
    figures = validate_judge(module, [batch], Worker())
    assert figures["log-likelihood"] == pytest.approx(-after, abs=1e-5)
    assert figures["accuracy"] > 0.7


LEARNS = (
    "{enabled: true, layers: 2, epochs: 3, window_items: 6, item_tokens: 4, pairs: 400, batch_examples: 32, "
    "learning_rate: 3.0e-3}"
)


def learn_two_genres(rank: int, world_size: int, folder: Path, data: Path) -> None:
    """Train the stage on users of two genres; ``data/figures.json`` is of users that it never saw."""
    write_data(data, tastes=2, own_share=0.95)
    places = [f"data.interactions={data / 'tiny.inter'}", f"data.items={data / 'tiny.item'}"]
    config = tiny_config(folder, [f"drift.judge={LEARNS}", *places])
    dataset = load_dataset(config)
    prompt, options = Prompt.of(config, dataset.catalog), config.drift.judge
    torch.manual_seed(config.seed)
    stage = judge_stage(config, dataset, prompt, Worker())
    fit_stage(stage, config.training, Worker(), Snapshot(Progress()), config.seed)
    test_users = dataset.histories(dataset.events, dataset.users_of("test"))
    far = JudgeSampler(test_users, prompt, options.model_copy(update={"pairs": 200}), 9, taste_distance(dataset))
    module: Any = stage.module
    (data / "figures.json").write_text(json.dumps(validate_judge(module.eval(), list(far.epoch(0)), Worker())))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_learns_that_two_genres_are_not_one(tiny_folder: Path, tmp_path: Path) -> None:
    tiny_config(tiny_folder)  # writes the base
    run_ranks(1, learn_two_genres, tiny_folder, tmp_path)
    assert json.loads((tmp_path / "figures.json").read_text())["accuracy"] >= 0.9


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_that_has_ended_can_be_given_a_judge(
    ray_cluster: str, tiny_folder: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    from driftline.training.trainer import train

    config = tiny_config(tiny_folder, [JUDGE])
    result = train(config, Console(file=io.StringIO()), resume=tiny_bundle.name, target=tmp_path / "judged")
    assert result.metrics["judge/log-likelihood"] < 0
    before, model = driftline.load(tiny_bundle), driftline.load(result.bundle)
    assert before.judge is None
    for part in ("text", "ranker", "drift"):  # nothing else was trained again
        own, theirs = getattr(model.contents, part), getattr(before.contents, part)
        assert all(torch.equal(own[name], tensor) for name, tensor in theirs.items())
    assert model.judge is not None
    assert model.detector is not None
    assert model.detector.judge is model.judge
    stored = model.contents.judge
    assert stored is not None
    assert all(torch.equal(stored[name], tensor) for name, tensor in adapter_state(model.judge.model).items())
    (opinion,) = model.judge.opinions([(np.arange(12), 6)])
    assert np.isfinite(opinion.log_odds)
