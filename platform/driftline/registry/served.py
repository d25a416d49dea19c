"""A model's scores in the form that the evaluator takes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from driftline.drift.report import DriftReport
from driftline.evaluation.protocols import ScoreFunction
from driftline.ranking.requests import RankRequest
from driftline.registry.model import Model
from driftline.sequences.batches import History
from driftline.sequences.event_types import type_names


def score_functions(model: Model, drift_every_events: int = 1) -> dict[str, ScoreFunction]:
    """``driftline`` is what ``recommend`` serves, policy included; ``driftline neural`` the ranking encoder alone.

    Parameters
    ----------
    drift_every_events
        A user's drift state is worked out at multiples of this many events and lags in between, as in a service under
        load. 1 = always current. Successive targets of one user then share a scan, which is most of the time.
    """
    reports: dict[bytes, DriftReport] = {}

    def served(histories: Sequence[History]) -> NDArray[np.float32]:
        """Log-probabilities of all items, read as the service reads: ``log_p_BN``."""
        asked = [_request(model, history) for history in histories]
        if model.detector is None:
            return model.log_probabilities(asked)
        items_of = [request.history for request in asked]
        stops = [len(items) - len(items) % drift_every_events for items in items_of]
        keys = [history.items[:stop].tobytes() for history, stop in zip(histories, stops, strict=True)]
        new = {key: row for row, key in enumerate(keys) if key not in reports}
        scanned = model.drift_batch([items_of[row][: stops[row]] for row in new.values()])
        reports.update(zip(new, scanned, strict=True))
        requests = [replace(request, drift=reports[key]) for request, key in zip(asked, keys, strict=True)]
        return model.log_probabilities(requests)

    def neural(histories: Sequence[History]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = model.scorer.neural(histories).numpy()
        return scores

    return {"driftline neural": neural, "driftline": served}


def _request(model: Model, history: History) -> RankRequest:
    times, types, numbers = history.times_s, history.types, history.attributes
    return RankRequest(
        [model.item_ids[item] for item in history.items],
        times_s=None if times is None else times.tolist(),
        types=None if types is None else type_names(types),
        attributes={} if numbers is None else model.contents.user_attributes.named(numbers),
        now_s=history.now_s,
    )
