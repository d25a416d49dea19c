"""Batches of item texts of like length, so that little of them is padding."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftline.models.text_tower import Tokenizer, Tokens
from driftline.sequences.batches import length_groups


class TextSampler:
    """Seeded batches of (tokens, item indices) from texts of like length; the same interface as ``CropSampler``.

    All ranks' batches of a step come from neighbouring lengths, so that no rank waits for another.

    Parameters
    ----------
    tokenizer
        Of the base.
    texts
        Item texts by index.
    eligible
        Item indices to read.
    batch_size
        Texts per rank and step.
    word_dropout
        Share of the words that are not read, others in every epoch (at least one word of a text is).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        eligible: NDArray[np.int64],
        batch_size: int,
        seed: int,
        word_dropout: float = 0.0,
    ) -> None:
        self._tokenizer, self._texts, self._eligible = tokenizer, texts, eligible
        self._batch_size, self._seed, self._word_dropout = batch_size, seed, word_dropout
        self._lengths = np.array([len(text) for text in texts])

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Steps of each rank in one epoch; few texts give one step of smaller batches."""
        if len(self._eligible) < world_size:
            return 0
        return max(1, len(self._eligible) // (self._batch_size * world_size))

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1, start: int = 0) -> Iterator[tuple[Tokens, Tensor]]:
        """Batches of one epoch for one rank, from its batch number ``start`` on.

        No text is read twice; an incomplete last batch is dropped.
        """
        size = min(self._batch_size, len(self._eligible) // world_size)
        for step in self._steps(epoch, size * world_size)[start:]:
            chosen = step[rank * size : (rank + 1) * size]
            yield self._tokenizer([self._read(int(i), epoch) for i in chosen]), torch.from_numpy(chosen)

    def _read(self, item: int, epoch: int) -> str:
        """What of an item's text is read in an epoch, whatever the number of ranks."""
        if not self._word_dropout:
            return self._texts[item]
        words = self._texts[item].split()
        chance = np.random.default_rng([self._seed, epoch, item]).random(len(words))
        least = min(self._word_dropout, chance.max(initial=0.0))
        return " ".join(word for word, c in zip(words, chance, strict=True) if c >= least)

    def _steps(self, epoch: int, size: int) -> list[NDArray[np.int64]]:
        """Item indices of every step, those of all ranks together."""
        if size == 0:
            return []
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(self._eligible)
        order = order[: len(order) // size * size]
        return [order[group] for group in length_groups(self._lengths[order], size, rng)]
