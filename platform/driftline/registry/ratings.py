"""The rating head of a bundle, in the form that the evaluator takes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.errors import BundleError
from driftline.evaluation.ratings import ValueFunction
from driftline.registry.model import Model
from driftline.sequences.batches import History
from driftline.sequences.scale import unscaled


def value_function(model: Model, value_range: tuple[float, float]) -> ValueFunction:
    """Explicit values that the rating head predicts, in the data's own scale.

    Parameters
    ----------
    value_range
        Lowest and highest value of the log that the bundle was trained on (``Dataset.value_range``).

    Raises
    ------
    BundleError
        If the bundle was trained with ``heads.rating=0``.
    """
    head, table_ND = model.scorer.ranker.rating_head, model.scorer.table_ND
    if head is None:
        raise BundleError(f"bundle {model.version} has no rating head: it was trained with heads.rating=0")

    @torch.inference_mode()
    def values(histories: Sequence[History], items_B: NDArray[np.int64]) -> NDArray[np.float64]:
        shares_B = head(model.scorer.interests(histories), table_ND[torch.from_numpy(items_B)])
        return unscaled(shares_B.numpy(), *value_range)

    return values
