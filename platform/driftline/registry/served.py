"""A model's scores in the form that the evaluator takes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from driftline.evaluation.protocols import ScoreFunction
from driftline.ranking.requests import RankRequest
from driftline.registry.model import Model
from driftline.sequences.batches import History


def score_functions(model: Model) -> dict[str, ScoreFunction]:
    """``driftline`` is what ``recommend`` serves, policy included; ``driftline neural`` the ranking encoder alone."""

    def served(histories: Sequence[History]) -> NDArray[np.float32]:
        return model.log_probabilities([RankRequest([model.item_ids[i] for i in h.items]) for h in histories])

    def neural(histories: Sequence[History]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = model.scorer.neural([History(h.items) for h in histories]).numpy()
        return scores

    return {"driftline neural": neural, "driftline": served}
