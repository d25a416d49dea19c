"""The catalogue: what can be recommended, as ids, titles and text.

Reading order: ``text`` (what the model reads about an item), ``items`` (item table to catalogue), ``graph`` (facts from
a knowledge graph), ``agreement`` (whether that graph is about these items).
"""

from driftline.catalog.agreement import Agreement, link_agreement
from driftline.catalog.graph import Graph, facts, read_graph
from driftline.catalog.items import Catalog, ItemTable, build_catalog, read_items, split_categories
from driftline.catalog.text import compose, display_title

__all__ = [
    "Agreement",
    "Catalog",
    "Graph",
    "ItemTable",
    "build_catalog",
    "compose",
    "display_title",
    "facts",
    "link_agreement",
    "read_graph",
    "read_items",
    "split_categories",
]
