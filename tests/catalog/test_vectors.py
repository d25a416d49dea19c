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


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a"]}, "needs item_id and one for each modality"),
        ({"id": ["a"], "image": [[1.0]]}, "needs item_id"),
        ({"item_id": ["a", "a"], "image": [[1.0], [1.0]]}, "more than once"),
        (
            {"item_id": ["a", "b"], "image": [[1.0], [1.0, 2.0]]},
            r"'image' .*lengths \[1, 2\].* no list of equal length",
        ),
        ({"item_id": ["a"], "image": [1.0]}, "'image' .* no list"),
        ({"item_id": ["a"], "image": [["red"]]}, "'image' holds something that is no number"),
        ({"item_id": ["a"], "image": [[float("nan")]]}, "'image' holds numbers that are not finite"),
    ],
)
def test_faults_are_named(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_item_vectors(written(tmp_path, **columns), INDEX)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "vectors.parquet").write_text("a,b\n")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_item_vectors(tmp_path / "vectors.parquet", INDEX)
