"""Batches of texts: disjoint over ranks, of like length, and the same wherever an epoch is entered."""

from pathlib import Path

import numpy as np
import pytest

from driftline.models.text_sampler import TextSampler
from driftline.models.text_tower import Tokenizer
from tests.tiny import write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_batches_are_disjoint_equally_many_and_of_like_length(base: Path, world_size: int) -> None:
    texts = ["Ranch " * (1 + number % 8) for number in range(40)]
    sampler = TextSampler(Tokenizer(base, 48), texts, np.arange(2, 40), batch_size=4, seed=0)
    by_rank = [list(sampler.epoch(0, rank, world_size)) for rank in range(world_size)]
    assert {len(batches) for batches in by_rank} == {sampler.batches_per_epoch(world_size)} == {38 // (4 * world_size)}
    chosen = [int(item) for batches in by_rank for _, items in batches for item in items]
    assert len(chosen) == len(set(chosen)) == 4 * world_size * (38 // (4 * world_size))
    assert set(chosen) <= set(range(2, 40))
    spread = [len({int(item) % 8 for item in items}) for batches in by_rank for _, items in batches]
    assert max(spread) <= 2  # 38 texts of 8 lengths: at most one boundary inside four neighbours


def test_epochs_differ_and_an_epoch_can_start_in_the_middle(base: Path) -> None:
    sampler = TextSampler(Tokenizer(base, 48), ["Ranch"] * 20, np.arange(20), batch_size=2, seed=0)

    def read(epoch: int, start: int = 0) -> list[list[int]]:
        return [items.tolist() for _, items in sampler.epoch(epoch, 0, 2, start)]

    assert read(0) == read(0) != read(1)
    assert read(0, start=3) == read(0)[3:]


def test_few_texts_make_smaller_batches(base: Path) -> None:
    sampler = TextSampler(Tokenizer(base, 48), ["Ranch"] * 3, np.arange(3), batch_size=16, seed=0)
    assert [len(items) for rank in range(2) for _, items in sampler.epoch(0, rank, 2)] == [1, 1]
    assert sampler.batches_per_epoch(4) == 0
    assert list(sampler.epoch(0, 0, 4)) == []


def test_words_are_dropped_by_item_and_epoch_whatever_the_ranks(base: Path) -> None:
    texts = [" ".join(f"w{number}" for number in range(50)), "alone"]
    sampler = TextSampler(Tokenizer(base, 48), texts, np.arange(2), batch_size=1, seed=0, word_dropout=0.4)
    read = sampler._read(0, epoch=0).split()
    assert read == sampler._read(0, epoch=0).split() != sampler._read(0, epoch=1).split()
    assert [word for word in texts[0].split() if word in read] == read  # in their order
    assert 20 <= len(read) <= 40
    assert {sampler._read(1, epoch) for epoch in range(20)} == {"alone"}
