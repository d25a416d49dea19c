"""Do the links of a knowledge graph fit the items? A wrong link file fails no check of form and spoils every fact.

Not an idle fear: the ``ml-100k.link`` that RecBole ships carries MovieLens-1M/20M item ids, and links "Titanic" to
"The Swan Princess" (https://github.com/RUCAIBox/RecSysDatasets/issues/130). By item id it is no better than chance.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from driftline.catalog.graph import ENTITY, HEAD, ITEM, TAIL, Graph
from driftline.catalog.items import split_categories
from driftline.columns import Items
from driftline.errors import DataError

MIN_ITEMS: Final = 5
"""Categories and entities of fewer linked items are left out: their correlations are noise."""

SIGNIFICANCE: Final = 0.01


@dataclass(frozen=True)
class Agreement:
    """How far graph and categories tell the same story.

    Parameters
    ----------
    strength
        Mean squared correlation between the categories of items and the entities that the links give them.
    by_chance
        The same for shuffled links, on average.
    p_value
        Share of shuffled links that agree as well as the given ones.
    """

    strength: float
    by_chance: float
    p_value: float

    @property
    def fits(self) -> bool:
        """Whether the links are better than shuffled ones (p < 0.01)."""
        return self.p_value < SIGNIFICANCE

    def __str__(self) -> str:
        verdict = "fit the items" if self.fits else "are no better than shuffled ones: facts from them would be wrong"
        return (
            f"links {verdict} (agreement {self.strength:.2g}, by chance {self.by_chance:.2g}, p = {self.p_value:.3f})"
        )


def link_agreement(graph: Graph, items: pd.DataFrame, *, permutations: int = 199, seed: int = 0) -> Agreement:
    """Test by permutation whether linked entities agree with the items' own categories.

    Legend: M = linked items with a category, C = categories, E = entities beside a linked item in some triple.

    Parameters
    ----------
    graph
        The graph.
    items
        As read by ``read_items``, with categories.
    permutations
        Number of shuffles; the smallest p-value is ``1 / (permutations + 1)``.
    seed
        Of the shuffles.

    Raises
    ------
    DataError
        If fewer than two categories, entities or items are left to compare.
    """
    linked = items[items[Items.CATEGORIES] != ""].merge(graph.links, on=ITEM)
    of_category, of_entity = (_standardised(names, len(linked)) for names in _names_by_row(linked, graph.triples))
    if min(of_category.shape[1], of_entity.shape[1]) < 2:
        raise DataError(
            f"too little to compare: {of_category.shape[1]} categories and {of_entity.shape[1]} entities "
            f"belong to {MIN_ITEMS} or more, but not all, of the {len(linked)} linked items with categories"
        )

    def strength(order: npt.NDArray[np.int64]) -> float:
        return float(np.mean((of_category[order].T @ of_entity / len(linked)) ** 2))

    rng = np.random.default_rng(seed)
    given = strength(np.arange(len(linked)))
    shuffled = np.array([strength(rng.permutation(len(linked))) for _ in range(permutations)])
    p_value = (1 + int((shuffled >= given).sum())) / (permutations + 1)
    return Agreement(given, float(shuffled.mean()), p_value)


def _names_by_row(linked: pd.DataFrame, triples: pd.DataFrame) -> tuple["pd.Series[str]", "pd.Series[str]"]:
    """Categories of linked items, and entities beside them in a triple; the index is the row in ``linked``."""
    categories = linked[Items.CATEGORIES].map(split_categories).explode()
    by_entity = pd.Series(linked.index, index=linked[ENTITY], name="row")
    sides = [
        triples.set_index(near)[far].rename(ENTITY).to_frame().join(by_entity, how="inner").set_index("row")[ENTITY]
        for near, far in ((HEAD, TAIL), (TAIL, HEAD))
    ]
    return categories, pd.concat(sides)


def _standardised(names: "pd.Series[str]", n_rows: int) -> npt.NDArray[np.float64]:
    """[M, names] indicators with mean 0 and variance 1, of names common enough to compare."""
    pairs = names.rename("name").rename_axis("row").reset_index().drop_duplicates()
    items_of_name = pairs.groupby("name")["row"].transform("size")
    pairs = pairs[items_of_name.between(MIN_ITEMS, n_rows - 1)]
    columns, distinct = pd.factorize(pairs["name"])
    indicators = np.zeros((n_rows, len(distinct)))
    indicators[pairs["row"], columns] = 1
    share = indicators.sum(axis=0) / max(n_rows, 1)
    standardised: npt.NDArray[np.float64] = (indicators - share) / np.sqrt(share * (1 - share))
    return standardised
