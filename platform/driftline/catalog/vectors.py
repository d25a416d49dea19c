"""Precomputed vectors of items, such as those of their images or their sound.

Shape legend: N items of the catalogue, V width of all modalities together.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from driftline.columns import Items
from driftline.errors import DataError
from driftline.events.schema import parse_identifier

ROWS_AT_ONCE: Final = 4096
"""Rows of the file in memory: 32 MB at 1,000 numbers each."""


def read_item_vectors(path: Path, index: Mapping[str, int]) -> NDArray[np.float32]:
    """Read a Parquet file with a column ``item_id`` and a column of lists of numbers for every modality.

    Each modality of an item is scaled to unit length, so that none outweighs another, and they are put side by side.
    Where an item has none it is zeros. Rows of items that the catalogue lacks are passed over. Memory is for twice
    the result and a few rows, however long the file.

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
        If the file cannot be read, an item of the catalogue occurs twice, or a modality is not of equally long lists of
        finite numbers. Rows are counted from 1.
    """
    row_N = np.zeros(len(index), dtype=np.int64)  # where each item is in the file; 0 = nowhere
    modalities: dict[str, _Modality] = {}
    read, ids = 0, list[str]()
    for batch in _batches(path):
        ids = _ids(path, batch.column(Items.ITEM), read + 1)
        places = np.array([index.get(item, -1) for item in ids], dtype=np.int64)
        for row, place in enumerate(places.tolist(), start=read + 1):
            if place < 0:
                continue
            if row_N[place]:
                raise DataError(
                    f"{path}: {Items.ITEM} {ids[row - read - 1]!r} occurs more than once, in rows {row_N[place]} and "
                    f"{row}; keep one row for each item"
                )
            row_N[place] = row
        for name in batch.schema.names:
            if name != Items.ITEM:
                modality = modalities.setdefault(name, _Modality(f"{path}: column {name!r}", len(index)))
                modality.add(batch.column(name), places, read + 1)
        read += len(ids)
    if not row_N.any():
        raise DataError(f"{path}: none of its {read} items is in the catalogue, for example {ids[:3]}; compare the ids")
    return np.concatenate([modality.filled() for modality in modalities.values()], axis=1)


def _batches(path: Path) -> Iterator[Any]:
    """The file as Arrow record batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=2**20) as file:
            names = file.schema_arrow.names
            if Items.ITEM not in names or len(names) < 2:
                raise DataError(f"{path} has columns {names}; it needs {Items.ITEM} and one for each modality")
            yield from file.iter_batches(ROWS_AT_ONCE)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error


def _ids(path: Path, column: Any, first: int) -> list[str]:
    """Ids in rows ``first`` and later; '' where there is none."""
    ids = []
    for row, cell in enumerate(column.to_pylist(), start=first):
        try:
            ids.append(parse_identifier(cell) or "")
        except ValueError as error:
            raise DataError(f"{path}: {Items.ITEM} in row {row}: {error}") from error
    return ids


class _Modality:
    """Vectors of one column, filled in as its rows are read."""

    def __init__(self, name: str, num_items: int) -> None:
        self.name = name
        self.vectors_NV = np.zeros((num_items, 0), dtype=np.float32)

    def add(self, column: Any, places: NDArray[np.int64], first: int) -> None:
        """Put rows ``first`` and later to their ``places``: -1 for items that the catalogue lacks."""
        given = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        vectors = self._numbers(column, given + first)
        if len(vectors) and not self.vectors_NV.shape[1]:
            self.vectors_NV = np.zeros((len(self.vectors_NV), vectors.shape[1]), dtype=np.float32)
        infinite = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(infinite):
            raise DataError(
                f"{self.name} holds numbers that are not finite in row {given[infinite[0]] + first}; leave such cells "
                "empty (null)"
            )
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        known = places[given] >= 0
        self.vectors_NV[places[given[known]]] = vectors[known]

    def _numbers(self, column: Any, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The lists of the cells that are not empty, which are in these ``rows`` of the file."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.types as kinds

        kind, held = column.type, column.drop_null()
        if not (kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)):
            raise DataError(f"{self.name} ({kind}) is no list of equal length")
        lengths = pc.list_value_length(held).to_numpy(zero_copy_only=False)
        width = self.vectors_NV.shape[1] or (int(lengths[0]) if len(lengths) else 0)
        other = np.flatnonzero((lengths != width) | (lengths == 0))
        if len(other):
            raise DataError(
                f"{self.name} ({kind}) is no list of equal length: {lengths[other[0]]} numbers in row "
                f"{rows[other[0]]}, {width} in the first"
            )
        try:
            numbers = held.flatten().cast(pa.float32(), safe=False)
        except pa.ArrowException as error:
            raise DataError(f"{self.name} holds something that is no number: {error}") from error
        vectors: NDArray[np.float32] = numbers.to_numpy(zero_copy_only=False).reshape(len(held), width)
        return vectors

    def filled(self) -> NDArray[np.float32]:
        """The vectors, once every row is read."""
        if not self.vectors_NV.shape[1]:
            raise DataError(f"{self.name} holds no list of numbers in any row")
        return self.vectors_NV
