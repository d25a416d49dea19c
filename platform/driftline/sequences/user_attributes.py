"""Attributes of users, such as an occupation: read from a table, and as numbers that the user encoder looks up.

Values are told apart, not measured: an age in years is one value among many, and putting ages into groups is the
table's business.

Shape legend: A attributes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftline.columns import Events
from driftline.errors import DataError
from driftline.events.formats import read_table
from driftline.events.schema import parse_identifier
from driftline.events.tables import Faults, Rejection

UNKNOWN: Final = 0
MIN_USERS: Final = 5
"""A value that fewer training users have tells of them, not of a kind of user: it counts as unknown."""

Given = Mapping[str, str]
"""Value by attribute, for one user; what is missing is unknown."""


@dataclass(frozen=True)
class UserAttributes:
    """The values that have a number, by attribute. Without any there is nothing to read."""

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str], users: Iterable[Given]) -> "UserAttributes":
        """Values of the training users' attributes that :data:`MIN_USERS` of them share, in alphabetical order."""
        counts = {name: Counter[str]() for name in names}
        for given in users:
            for name, value in given.items():
                counts[name][value] += 1
        return cls({name: sorted(v for v, n in found.items() if n >= MIN_USERS) for name, found in counts.items()})

    @property
    def size(self) -> int:
        """Values of all attributes together."""
        return len(self._numbers)

    def numbers(self, given: Given) -> NDArray[np.int64]:
        """``numbers_A``, in the order of :attr:`values`: from 1 on, :data:`UNKNOWN` where there is no such value.

        Raises
        ------
        DataError
            If there is no such attribute.
        """
        unread = [name for name in given if name not in self.values]
        if unread:
            raise DataError(f"user attributes {unread} are not read; valid: {', '.join(self.values) or 'none'}")
        found = [self._numbers.get((name, given.get(name, "")), UNKNOWN) for name in self.values]
        return np.array(found, dtype=np.int64)

    def named(self, numbers_A: NDArray[np.int64]) -> dict[str, str]:
        """What :meth:`numbers` read; unknown ones are left out."""
        pairs = list(self._numbers)
        return dict(pairs[number - 1] for number in numbers_A.tolist() if number != UNKNOWN)

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], int]:
        pairs = ((name, value) for name, values in self.values.items() for value in values)
        return {pair: number for number, pair in enumerate(pairs, start=1)}


def read_user_table(path: Path, names: Sequence[str]) -> tuple[dict[str, dict[str, str]], list[Rejection]]:
    """Read a user table (RecBole ``.user``, CSV, JSON Lines or Parquet); other columns than ``names`` are passed over.

    Returns
    -------
    dict, list
        By user id the attributes that are not missing; and the rows without a user id, or with one that has occurred.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, or no row is usable.
    """
    table = read_table(path)
    wanted = (Events.USER, *names)
    ignored = {name: None for name in table.columns if name not in wanted}
    cells = table.select(ignored, known=wanted, required=wanted, aliases={})
    faults = Faults(table)
    ids = faults.parsed(Events.USER, cells[Events.USER], parse_identifier, required=True)
    columns = {name: faults.parsed(name, cells[name], parse_identifier) for name in names}
    users: dict[str, dict[str, str]] = {}
    for row in faults.usable():
        user = ids[row] or ""
        if user in users:
            faults.add(row, f"{Events.USER}: {user!r} was already given")
        else:
            users[user] = {name: value for name, cells_of in columns.items() if (value := cells_of[row]) is not None}
    return users, faults.rejections()


def learn_attributes(
    path: Path, names: Sequence[str], users: Mapping[str, Given], trained: Sequence[str]
) -> UserAttributes:
    """The values that training users have.

    Raises
    ------
    DataError
        If none is shared by :data:`MIN_USERS` of them, as in a table of other users.
    """
    found = UserAttributes.of(names, [users[user] for user in trained if user in users])
    if not found.size:
        raise DataError(
            f"{path}: no value of {', '.join(names)} is shared by {MIN_USERS} training users; the table has "
            f"{len(users)} users, such as {list(users)[:3]}, and the events have {len(trained)}, such as "
            f"{list(trained[:3])}: compare the ids, or leave data.user_attributes out"
        )
    return found
