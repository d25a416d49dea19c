"""Requests that cannot mean anything are refused where they are made."""

import pytest

from driftline.ranking.requests import RankRequest


@pytest.mark.parametrize("diversity", [-0.1, 1.0, 7.0, float("nan")])
def test_diversity_lies_between_0_and_1(diversity: float) -> None:
    with pytest.raises(ValueError, match="diversity=.*at least 0 and below 1"):
        RankRequest(["a"], diversity=diversity)


def test_a_list_cannot_have_fewer_than_no_items() -> None:
    assert RankRequest(["a"], k=0).k == 0
    with pytest.raises(ValueError, match="k=-1"):
        RankRequest(["a"], k=-1)
