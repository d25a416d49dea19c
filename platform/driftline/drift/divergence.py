"""Jensen-Shannon divergence."""

import numpy as np
from scipy.special import xlogy

from driftline.drift.restart import FloatArray


def jensen_shannon(first_SG: FloatArray, second_SG: FloatArray) -> FloatArray:
    """Divergence of the shares of two rows of counts, for many pairs at once: ``divergence_S``, nats (Lin 1991)."""
    p_SG, q_SG = (counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1) for counts in (first_SG, second_SG))
    middle_SG = (p_SG + q_SG) / 2
    joint_SG = (xlogy(p_SG, p_SG) + xlogy(q_SG, q_SG)) / 2 - xlogy(middle_SG, middle_SG)
    return np.asarray(joint_SG.sum(axis=-1))
