"""Year and categories out of an item's text."""

import math

import pytest

from driftline.catalog.attributes import WEIGHT, Attributes, year_and_categories
from driftline.catalog.text import compose

TEXTS = [
    compose("Dusty Ranch", "1950", ("Western", "Action")),
    compose("Silent Orbit", "1990", ("Sci-Fi",), "A voyage. Genres: none."),
    compose("Tender Letter", "1994", ("Western",)),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXTS[0], (1950, ("Western", "Action"))),
        (TEXTS[1], (1990, ("Sci-Fi",))),
        ("Orbit (2001: the film). Genres: Sci-Fi.", (None, ("Sci-Fi",))),
        (compose("1984", "1984"), (1984, ())),
        ("卧虎藏龙", (None, ())),
        ("", (None, ())),
    ],
)
def test_what_was_composed_is_read_again(text: str, expected: tuple[int | None, tuple[str, ...]]) -> None:
    assert year_and_categories(text) == expected


def test_columns_by_hand() -> None:
    attributes = Attributes.of(TEXTS)
    assert attributes.categories == ("Action", "Sci-Fi", "Western")
    assert {1950.0, 1990.0, 1994.0} <= set(attributes.centres_Y.tolist())
    row = attributes(TEXTS)[0] / WEIGHT
    assert row[:3].tolist() == [1, 0, 1]
    assert row[3 + attributes.centres_Y.tolist().index(1950.0)] == 1


def test_a_bump_falls_off_with_the_distance_to_its_neighbours() -> None:
    attributes = Attributes(("Western",), Attributes.of(TEXTS).centres_Y[:0])
    assert (attributes(TEXTS) / WEIGHT).tolist() == [[1], [0], [1]]
    two = Attributes((), Attributes.of(["(1990).", "(1994)."]).centres_Y[[0, -1]])  # widths (1994 - 1990) / 2
    assert (two(["(1992)."])[0] / WEIGHT).tolist() == pytest.approx([math.exp(-1 / 2)] * 2)


def test_what_the_catalogue_lacks_says_nothing() -> None:
    assert not Attributes.of(TEXTS)(["A new one. Genres: Musical."]).any()
    assert Attributes.of([])(["Orbit (1990)."]).shape == (1, 0)
