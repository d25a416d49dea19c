"""Precomputed vectors of items, such as those of their images or their sound.

Shape legend: N items of the catalogue, V width of all modalities together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.columns import Items
from driftline.errors import DataError
from driftline.events.schema import parse_identifier


def read_item_vectors(path: Path, index: Mapping[str, int]) -> NDArray[np.float32]:
    """Read a Parquet file with a column ``item_id`` and a column of lists of numbers for every modality.

    Each modality of an item is scaled to unit length, so that none outweighs another, and they are put side by side.
    Where an item has none it is zeros. Rows of items that the catalogue lacks are passed over.

    Parameters
    ----------
    index
        External item id to place in the catalogue.

    Returns
    -------
    ndarray
        ``vectors_NV``.

    Raises
    ------
    DataError
        If the file cannot be read, an item occurs twice, or a modality is not of equally long lists of finite numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
    modalities = [name for name in table.column_names if name != Items.ITEM]
    if Items.ITEM not in table.column_names or not modalities:
        raise DataError(f"{path} has columns {table.column_names}; it needs {Items.ITEM} and one for each modality")
    ids = [parse_identifier(cell) or "" for cell in table[Items.ITEM].to_pylist()]
    if len(set(ids)) != len(ids):
        raise DataError(f"{path}: an {Items.ITEM} occurs more than once; keep one row for each item")
    places = np.array([index.get(item, -1) for item in ids], dtype=np.int64)
    if (places < 0).all():
        raise DataError(
            f"{path}: none of its {len(ids)} items is in the catalogue, for example {ids[:3]}; compare the ids"
        )
    parts = [_modality(path, name, table[name].combine_chunks(), places, len(index)) for name in modalities]
    return np.concatenate(parts, axis=1)


def _modality(path: Path, name: str, column: Any, places: NDArray[np.int64], num_items: int) -> NDArray[np.float32]:
    """One modality, by catalogue index; ``places`` has -1 for items that the catalogue lacks."""
    import pyarrow as pa

    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    given = column.is_valid().to_numpy(zero_copy_only=False)
    rows = column.filter(pa.array(given)).to_pylist() if is_list else []
    widths = {len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        raise DataError(f"{path}: column {name!r} ({kind}, lengths {sorted(widths)[:5]}) is no list of equal length")
    try:
        vectors = np.array(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: column {name!r} holds something that is no number: {error}") from error
    if not np.isfinite(vectors).all():
        raise DataError(f"{path}: column {name!r} holds numbers that are not finite; leave such cells empty (null)")
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    scattered = np.zeros((num_items, vectors.shape[1]), dtype=np.float32)
    known = places[given] >= 0
    scattered[places[given][known]] = vectors[known]
    return scattered
