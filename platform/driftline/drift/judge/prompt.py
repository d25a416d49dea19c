"""What the judge reads: two lists of item texts and a question.

Nothing but the items tells the label: both lists are always equally long, whatever the answer.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from driftline.catalog import Catalog
from driftline.catalog.text import clean
from driftline.config import Config
from driftline.models.build import base_model
from driftline.models.text_tower import Tokenizer, Tokens
from driftline.models.verbaliser import answer_tokens

FIRST, SECOND = "First list:", "\nSecond list:"
QUESTION = "\nDid the taste change? Answer:"
SEPARATOR = ";"
YES, NO = " yes", " no"

ItemArray = NDArray[np.int64]


class Prompt:
    """Turns two lists of items into token ids.

    Parameters
    ----------
    tokenizer
        Of the base.
    texts
        By item index: :func:`item_texts`.
    item_tokens
        An item's text is cut after so many tokens.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], item_tokens: int) -> None:
        self._tokenizer = tokenizer
        shared, *answers = answer_tokens(tokenizer.ids(YES), tokenizer.ids(NO))
        self.answers: tuple[int, int] = (answers[0], answers[1])
        """Token ids of 'yes' and of 'no'."""
        self._first, self._second, self._separator = map(tokenizer.ids, (FIRST, SECOND, SEPARATOR))
        self._question = tokenizer.ids(QUESTION) + shared
        self._texts, self._item_tokens = texts, item_tokens
        self._ids: dict[int, list[int]] = {}

    @classmethod
    def of(cls, config: Config, catalog: Catalog) -> "Prompt":
        """With the tokenizer of ``text.base``."""
        tokenizer = Tokenizer(base_model(config), config.text.max_tokens)
        return cls(tokenizer, item_texts(catalog), config.drift.judge.item_tokens)

    def __call__(self, first: Sequence[int] | ItemArray, second: Sequence[int] | ItemArray) -> list[int]:
        """Token ids of the question whether the taste changed between two lists of item indices."""
        return [*self._first, *self._list(first), *self._second, *self._list(second), *self._question]

    def pad(self, prompts: Sequence[list[int]]) -> Tokens:
        """Prompts as one batch."""
        return self._tokenizer.pad(prompts)

    def _list(self, items: Sequence[int] | ItemArray) -> list[int]:
        return [token for item in items for token in (*self._item(int(item)), *self._separator)]

    def _item(self, item: int) -> list[int]:
        if item not in self._ids:
            self._ids[item] = self._tokenizer.ids(f" {self._texts[item]}")[: self._item_tokens]
        return self._ids[item]


def item_texts(catalog: Catalog) -> list[str]:
    """``category, category: title`` of every item; categories first, where a cut does not reach them."""
    return [
        clean(f"{', '.join(categories)}: {title}" if categories else title)
        for title, categories in zip(catalog.titles, catalog.categories, strict=True)
    ]


def lists(items: ItemArray, change_point: int, window_items: int) -> list[tuple[ItemArray, ItemArray]]:
    """Cut what lies on either side of a change point into pairs of equally long lists, newest first.

    Both sides give as many events as the shorter one has: its newest. Beyond the first pair only whole lists are read.

    Parameters
    ----------
    items
        A history, oldest first.
    change_point
        Index of the first event after the change; at least 1, and before the last event's end.
    window_items
        Most items of a list.

    Examples
    --------
    >>> [(a.tolist(), b.tolist()) for a, b in lists(np.arange(9), 4, 3)]
    [([1, 2, 3], [6, 7, 8])]
    >>> [(a.tolist(), b.tolist()) for a, b in lists(np.arange(9), 4, 2)]
    [([2, 3], [7, 8]), ([0, 1], [5, 6])]
    """
    size = min(change_point, len(items) - change_point)
    length = min(size, window_items)
    before, after = items[:change_point], items[change_point:]

    def newest(side: ItemArray, left_out: int) -> ItemArray:
        stop = len(side) - left_out
        return side[stop - length : stop]

    starts = range(0, size - length + 1, length)
    return [(newest(before, left_out), newest(after, left_out)) for left_out in starts]
