"""Who had what, as a sparse matrix: what every collaborative model is fitted on.

Shape legend: U users or histories, N items.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Items = NDArray[np.int64]
"""Item indices of one user, oldest first."""


def interactions(sequences: Sequence[Items], num_items: int) -> csr_array:
    """Binary matrix U by N in compressed rows: a repeated item counts once."""
    distinct = [np.unique(items).astype(np.int32) for items in sequences]
    indptr = np.cumsum([0, *map(len, distinct)], dtype=np.int64)
    indices = np.concatenate([*distinct, np.empty(0, np.int32)])
    return csr_array((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=(len(distinct), num_items))
