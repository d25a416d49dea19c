"""Whether links fit the items: a graph that does, the same one shuffled, and the sample's."""

import numpy as np
import pandas as pd
import pytest

from driftline.catalog import Graph, link_agreement, read_graph, read_items
from driftline.columns import Items
from driftline.errors import DataError
from driftline.samples import fetch_movielens

N = 60
ITEMS = pd.DataFrame(
    {
        Items.ITEM: [str(item) for item in range(N)],
        Items.CATEGORIES: [("Drama", "Comedy", "Drama War")[item % 3] for item in range(N)],
    }
)


def graph(order: np.ndarray) -> Graph:
    """Entity e has the genre of item e; item i is linked to entity ``order[i]``."""
    triples = [(f"e{item}", "genre", f"g{item % 3}") for item in range(N)]
    links = [(str(item), f"e{entity}") for item, entity in enumerate(order)]
    return Graph(
        pd.DataFrame(triples, columns=["head_id", "relation_id", "tail_id"]),
        pd.DataFrame(links, columns=["item_id", "entity_id"]),
        [],
    )


def test_true_links_fit_and_shuffled_ones_do_not() -> None:
    true = link_agreement(graph(np.arange(N)), ITEMS)
    assert true.fits
    assert true.p_value == 1 / 200
    # Drama, Comedy, War against g0, g1, g2, a third of the items each. Comedy = g1 and War = g2: correlation 1 with it
    # and -1/2 with the other two. Drama = not g1: -1 with g1, 1/2 with the others. Mean square: 3 (1 + 1/4 + 1/4) / 9.
    assert true.strength == pytest.approx(0.5)
    shuffled = link_agreement(graph(np.random.default_rng(1).permutation(N)), ITEMS)
    assert not shuffled.fits
    assert "no better than shuffled" in str(shuffled)


def test_too_little_to_compare_is_an_error() -> None:
    with pytest.raises(DataError, match="too little to compare: 0 categories"):
        link_agreement(graph(np.arange(N)), ITEMS.assign(**{Items.CATEGORIES: ""}))


def test_the_links_of_the_movielens_sample_do_not_fit() -> None:
    folder = fetch_movielens()
    items = read_items(folder / "ml-100k.item").items
    agreement = link_agreement(read_graph(folder / "ml-100k.kg", folder / "ml-100k.link"), items)
    assert not agreement.fits
    assert agreement.strength == pytest.approx(agreement.by_chance, rel=0.1)
