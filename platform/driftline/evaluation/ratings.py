"""Explicit values predicted for held-out events: squared and absolute error of every model.

Shape legend: T targets, B targets of a batch, N items.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from driftline.columns import Events
from driftline.columns import Targets as Columns
from driftline.evaluation.bootstrap import Interval, user_bootstraps
from driftline.evaluation.protocols import BATCH_TARGETS, MEASURED
from driftline.events.splits import Targets
from driftline.models.ratings import BiasedFactors, Values, damped_means, tuned_biased_mf
from driftline.sequences.batches import History
from driftline.sequences.dataset import Dataset

Floats = NDArray[np.float64]

ValueFunction = Callable[[Sequence[History], NDArray[np.int64]], Floats]
"""Histories (with their users) and an item of each, to values in the data's own scale: ``values_B``."""

ERRORS: Mapping[str, Callable[[Floats], Floats]] = {"MSE": np.square, "MAE": np.abs}


@dataclass(frozen=True)
class RatingModel:
    """One model's MSE and MAE with 95 % user-level bootstrap intervals; lower is better."""

    model: str
    metrics: dict[str, Interval]


@dataclass(frozen=True)
class RatingResult:
    """All models; ``rows`` is the dump: one row per target and model, with the value and what was predicted."""

    protocol: str
    models: list[RatingModel]
    rows: pd.DataFrame

    @property
    def targets(self) -> int:
        """T."""
        return len(self.rows) // max(1, len(self.models))

    def comparisons(self) -> dict[str, dict[str, Interval]]:
        """By baseline and metric: the error of :data:`MEASURED` minus the baseline's; below 0 it is better."""
        by_model = {str(name): rows for name, rows in self.rows.groupby(Columns.MODEL, sort=False)}
        others = [name for name in by_model if name != MEASURED]
        if MEASURED not in by_model or not others:
            return {}
        wrong = {name: (rows[Columns.PREDICTED] - rows[Columns.VALUE]).to_numpy() for name, rows in by_model.items()}
        columns = [error(wrong[MEASURED]) - error(wrong[name]) for name in others for error in ERRORS.values()]
        found = iter(user_bootstraps(np.column_stack(columns), by_model[MEASURED][Columns.USER].to_numpy()))
        return {name: {metric: next(found) for metric in ERRORS} for name in others}


def rating_baselines(
    dataset: Dataset, tell: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, ValueFunction]:
    """Means and biased matrix factorisation, fitted on the training events of a ``rating`` split.

    The factorisation's settings are chosen on the validation targets.
    """
    users = {user: number for number, user in enumerate(dataset.users)}
    num_users, num_items = len(users), len(dataset.catalog)
    train = dataset.split.train[np.isfinite(dataset.split.train[Events.VALUE])]
    known = _values(dataset, users, train[Events.USER], train[Events.ITEM], train[Events.VALUE].to_numpy(np.float64))
    held = dataset.split.validation
    validation = _values(dataset, users, held.user_ids, held.item_ids, held.values)
    factorised = tuned_biased_mf(known, validation, num_users, num_items, tell)

    def pairs(model: BiasedFactors) -> ValueFunction:
        return lambda histories, items: model.predict(np.array([users[h.user] for h in histories]), items)

    mean = float(known.values_E.mean())
    return {
        "mean": lambda histories, items: np.full(len(items), mean),
        "user-item mean": pairs(damped_means(known, num_users, num_items)),
        "biased MF": pairs(factorised),
    }


def _values(
    dataset: Dataset, users: Mapping[str, int], user_ids: Iterable[str], item_ids: Iterable[str], values: Floats
) -> Values:
    return Values(np.array([users[user] for user in user_ids], dtype=np.int64), dataset.indices(item_ids), values)


def rate(
    dataset: Dataset,
    targets: Targets,
    models: Mapping[str, ValueFunction],
    seed: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> RatingResult:
    """Predict every target's value with every model; predictions are cut to the range of the data's values."""
    low, high = dataset.value_range
    answer_T = dataset.indices(targets.item_ids)
    predicted = {name: np.empty(len(targets)) for name in models}
    for first in range(0, len(targets), BATCH_TARGETS):
        batch = slice(first, min(first + BATCH_TARGETS, len(targets)))
        histories = [dataset.target_history(targets, number) for number in range(batch.start, batch.stop)]
        for name, predict in models.items():
            predicted[name][batch] = np.clip(predict(histories, answer_T[batch]), low, high)
        tell(batch.stop, len(targets))
    columns = [error(predicted[name] - targets.values) for name in models for error in ERRORS.values()]
    found = iter(user_bootstraps(np.column_stack(columns), targets.user_ids))
    results = [RatingModel(name, {metric: next(found) for metric in ERRORS}) for name in models]
    return RatingResult(dataset.split.name, results, pd.concat(_rows(dataset, targets, predicted, seed)))


def _rows(dataset: Dataset, targets: Targets, predicted: Mapping[str, Floats], seed: int) -> list[pd.DataFrame]:
    return [
        pd.DataFrame(
            {
                Columns.PROTOCOL: dataset.split.name,
                Columns.USER: targets.user_ids,
                Columns.ITEM: targets.item_ids,
                Columns.HISTORY_LENGTH: targets.history_lengths,
                Columns.VALUE: targets.values,
                Columns.PREDICTED: predicted_T,
                Columns.MODEL: name,
                Columns.SEED: seed,
            }
        )
        for name, predicted_T in predicted.items()
    ]
