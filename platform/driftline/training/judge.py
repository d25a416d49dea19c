"""Training of the LLM judge: yes or no to 'did the taste change?' on streams of training users."""

from functools import partial

import torch

from driftline.config import Config
from driftline.drift.judge.examples import Examples, JudgeSampler
from driftline.drift.judge.prompt import Prompt
from driftline.drift.streams import taste_distance
from driftline.models.adapters import describe_adapter
from driftline.models.build import build_judge
from driftline.models.verbaliser import Verbaliser
from driftline.sequences.dataset import Dataset
from driftline.training.stage import Stage, Worker
from driftline.training.validation import in_step, mean_over_ranks

VALIDATION_PAIRS = 100
"""Pairs of calibration users' streams that choose the epoch."""


def judge_stage(config: Config, dataset: Dataset, prompt: Prompt, worker: Worker) -> Stage:
    """The stage over the drift part's training users; calibration users measure it.

    Raises
    ------
    ConfigError
        If the base is no causal language model.
    DataError
        If too few users are long enough for streams.
    """
    options = config.drift.judge
    events = dataset.split.fit
    histories, held_back = (dataset.histories(events, dataset.users_of(part)) for part in ("train", "calibration"))
    model = build_judge(config, prompt.answers, for_training=True)
    few = options.model_copy(update={"pairs": min(options.pairs, VALIDATION_PAIRS)})
    batches = list(JudgeSampler(held_back, prompt, few, config.seed + 1).epoch(0))
    return Stage(
        name="judge",
        module=model,
        sampler=JudgeSampler(histories, prompt, options, config.seed, taste_distance(dataset)),
        loss=lambda engine, batch: judge_loss(engine, batch.to(worker.device)),
        counts=lambda batch: {"prompts": len(batch.users), "tokens": int(batch.tokens.mask_MT.sum())},
        ids=lambda batch: batch.users,
        validate=partial(validate_judge, model, batches, worker),
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch_size=options.batch_examples,
        validate_every_epochs=1,
        adapter=describe_adapter(model, options.adapter),
    )


def judge_loss(model: Verbaliser, batch: Examples) -> torch.Tensor:
    """Binary cross-entropy of the verbaliser's log odds, nats."""
    return torch.nn.functional.binary_cross_entropy_with_logits(model(batch.tokens), batch.changed_M)


@torch.no_grad()
def validate_judge(model: Verbaliser, batches: list[Examples], worker: Worker) -> dict[str, float]:
    """Mean log-likelihood of the right answer (nats; -0.69 = guessing) and the share of right answers."""
    sums, count = {"log-likelihood": 0.0, "accuracy": 0.0}, 0
    for batch, counts in in_step(batches, worker.rank, worker.world_size):
        moved = batch.to(worker.device)
        log_odds_M, right_M = model(moved.tokens), moved.changed_M > 0.5
        if counts:
            sign_M = torch.where(right_M, 1.0, -1.0)
            sums["log-likelihood"] += float(torch.nn.functional.logsigmoid(sign_M * log_odds_M).sum())
            sums["accuracy"] += float(((log_odds_M > 0) == right_M).sum())
            count += len(batch.users)
    return mean_over_ranks(sums, count, worker.device)
