"""How far two lists of items agree."""

import math
from collections.abc import Sequence


def overlap(a: Sequence[str], b: Sequence[str]) -> float:
    """Items in both, over the length of the longer list."""
    return len(set(a) & set(b)) / max(len(a), len(b), 1)


def rank_correlation(a: Sequence[str], b: Sequence[str]) -> float:
    """Kendall's tau-b over the items of either list, those that a list lacks being tied behind its last place.

    The place is the one that Fagin, Kumar & Sivakumar (2003) give to absent items (``l = k + 1``). 1: the same order;
    NaN where there is nothing to order.
    """
    from scipy.stats import kendalltau

    union = list(dict.fromkeys([*a, *b]))
    if len(union) < 2:
        return math.nan
    place_a, place_b = ({item: place for place, item in enumerate(one)} for one in (a, b))
    return float(kendalltau([place_a.get(i, len(a)) for i in union], [place_b.get(i, len(b)) for i in union]).statistic)
