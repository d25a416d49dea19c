"""Precomputed item vectors: unit length by modality, zeros where there is none, faults by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driftline.catalog.vectors import read_item_vectors
from driftline.errors import DataError

INDEX = {"a": 0, "b": 1, "7": 2}


def written(folder: Path, **columns: Any) -> Path:
    path = folder / "vectors.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_modalities_side_by_side_by_hand(tmp_path: Path) -> None:
    image, audio = [[3.0, 4.0], [0.0, 2.0], [1.0, 1.0]], [[1.0], None, [-5.0]]
    path = written(tmp_path, item_id=["b", "unheard of", "a"], image=image, audio=audio)
    vectors = read_item_vectors(path, INDEX)
    root = 1 / np.sqrt(2)
    np.testing.assert_allclose(vectors, [[root, root, -1], [0.6, 0.8, 1], [0, 0, 0]], rtol=1e-6)
    assert vectors.dtype == np.float32


def test_numbers_as_ids_and_vectors_of_fixed_size(tmp_path: Path) -> None:
    image = pa.array([[0.0, 2.0]], pa.list_(pa.float32(), 2))
    assert read_item_vectors(written(tmp_path, item_id=[7], image=image), INDEX)[2].tolist() == [0, 1]


def test_a_long_file_is_read_piece_by_piece(tmp_path: Path) -> None:
    """Three pieces; a fault is named by its row in the whole file."""
    ids = [str(row) for row in range(10_000)]
    image = [None if row % 2 else [float(row), 1.0] for row in range(10_000)]
    image[9999] = [0.0, -3.0]
    vectors = read_item_vectors(written(tmp_path, item_id=ids, image=image), {"9999": 0, "9998": 1, "5": 2, "0": 3})
    np.testing.assert_allclose(vectors, [[0, -1], np.array([9998, 1]) / np.hypot(9998, 1), [0, 0], [0, 1]], rtol=1e-6)
    image[9000] = [1.0]
    with pytest.raises(DataError, match="1 numbers in row 9001, 2 in the first"):
        read_item_vectors(written(tmp_path, item_id=ids, image=image), {"0": 0})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a"]}, "needs item_id and one for each modality"),
        ({"id": ["a"], "image": [[1.0]]}, "needs item_id"),
        ({"item_id": ["a", "b", "a"], "image": [[1.0]] * 3}, "'a' occurs more than once, in rows 1 and 3"),
        ({"item_id": ["x", "y"], "image": [[1.0]] * 2}, r"none of its 2 items .*\['x', 'y'\]"),
        ({"item_id": [True], "image": [[1.0]]}, "item_id in row 1: True is not text"),
        (
            {"item_id": ["a", "b", "7"], "image": [[1.0], None, [1.0, 2.0]]},
            "'image' .* no list of equal length: 2 numbers in row 3, 1 in the first",
        ),
        ({"item_id": ["a"], "image": pa.array([None], pa.list_(pa.float32()))}, "'image' holds no list of numbers"),
        ({"item_id": ["a"], "image": [1.0]}, "'image' .* no list"),
        ({"item_id": ["a"], "image": [["red"]]}, "'image' holds something that is no number"),
        ({"item_id": ["z", "a"], "image": [[1], [None]]}, "'image' holds numbers that are not finite in row 2"),
        ({"item_id": ["a"], "image": [[float("nan")]]}, "'image' holds numbers that are not finite in row 1"),
    ],
)
def test_faults_are_named(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_item_vectors(written(tmp_path, **columns), INDEX)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "vectors.parquet").write_text("a,b\n")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_item_vectors(tmp_path / "vectors.parquet", INDEX)
