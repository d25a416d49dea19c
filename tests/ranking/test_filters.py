"""Business rules on a shelf of four items."""

import pytest

from driftline.ranking.filters import FieldIndex, ItemRules

CATEGORIES = [("Drama", "War"), ("drama",), ("Comedy",), ()]
YEARS = ["1995", "2001-05", "", "1960s"]


@pytest.mark.parametrize(
    ("rules", "admitted"),
    [
        (ItemRules(), [0, 1, 2, 3]),
        (ItemRules(any_category=("DRAMA", "comedy")), [0, 1, 2]),
        (ItemRules(all_categories=("Drama", "War")), [0]),
        (ItemRules(no_category=("Drama",)), [2, 3]),
        (ItemRules(any_category=("Drama",), no_category=("War",)), [1]),
        (ItemRules(year_from=1995), [0, 1]),
        (ItemRules(year_to=1995), [0, 3]),
        (ItemRules(year_from=1961, year_to=2000), [0]),
        (ItemRules(any_category=("Opera",)), []),
    ],
)
def test_every_rule_that_is_given_must_hold(rules: ItemRules, admitted: list[int]) -> None:
    assert FieldIndex(CATEGORIES, YEARS).admitted(rules).nonzero()[0].tolist() == admitted
    assert [n for n in range(4) if rules.admit(CATEGORIES[n], YEARS[n])] == admitted
