"""Facts about items from a knowledge graph, as text.

Input is what RecBole calls a knowledge graph (KB4Rec: Zhao et al., 2019): triples of entity ids, and links from items
to entities. Such ids have no names (``m.0bxtg`` in Freebase), so a fact can only speak of what has one: other items.

- *direct*: the triple joins two items: ``sequel: The Godfather Part II``;
- *shared*: two items have the same relation to the same entity: ``same director as: Jaws, E.T.``

How telling a shared entity is, is measured by how few share it. For relation r and items i, j

    score_r(i, j) = 1 / d_r * sum over entities e that i and j share in r of 1 / g_e,

g_e the number of items that have e in r, d_r the mean number of entities of an item in r. The sum is the resource
allocation index (Zhou, Lü, Zhang 2009, Eur. Phys. J. B 71); dividing by d_r keeps a relation with many entities (30
actors a film) from winning against one with few (a director) on chance meetings.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import pandas as pd

from driftline.events.formats import read_table
from driftline.events.schema import parse_identifier
from driftline.events.tables import Faults, RawTable, Rejection

ITEM, ENTITY = "item_id", "entity_id"
HEAD, RELATION, TAIL = "head_id", "relation_id", "tail_id"
INVERSE, ROW, OTHER, NAME, SCORE = "inverse", "row", "other", "name", "score"

MAX_SHARED: Final = 50
"""An entity that more items have (the language English, the genre drama) says nothing about any of them."""


@dataclass(frozen=True)
class Graph:
    """A knowledge graph and where items are in it.

    Parameters
    ----------
    triples
        Columns ``head_id, relation_id, tail_id``, each triple once.
    links
        Columns ``item_id, entity_id``, each pair once.
    rejected
        Every row of the two files that could not be used.
    """

    triples: pd.DataFrame
    links: pd.DataFrame
    rejected: list[Rejection]


def read_graph(kg_path: str | Path, link_path: str | Path) -> Graph:
    """Read a knowledge graph from RecBole ``.kg`` and ``.link`` files (or CSV, JSON Lines, Parquet with their columns).

    Raises
    ------
    DataError
        If a file is missing, empty or not of its format, a column is unknown, or no row is usable.
    """
    triples, rejected_triples = _identifiers(read_table(kg_path), (HEAD, RELATION, TAIL))
    links, rejected_links = _identifiers(read_table(link_path), (ITEM, ENTITY))
    return Graph(triples, links, rejected_triples + rejected_links)


def _identifiers(table: RawTable, names: tuple[str, ...]) -> tuple[pd.DataFrame, list[Rejection]]:
    cells = table.select(None, known=names, required=names, aliases={})
    faults = Faults(table)
    values = {name: faults.parsed(name, cells[name], parse_identifier, required=True) for name in names}
    rejected = faults.rejections()
    frame = pd.DataFrame(values).iloc[faults.usable()]
    return frame.drop_duplicates(ignore_index=True), rejected


def facts(graph: Graph, titles: Mapping[str, str], *, max_facts: int = 4, max_titles: int = 3) -> dict[str, str]:
    """Say what the graph knows about items in terms of other items.

    Whether the links are about these items at all is for ``agreement.link_agreement`` to tell, before.

    Parameters
    ----------
    graph
        The graph.
    titles
        Item id to title, of the items to describe; they are described by one another.
    max_facts
        Facts per item, the most telling first (direct ones before shared ones).
    max_titles
        Titles per fact, the most telling first.

    Returns
    -------
    dict[str, str]
        Item id to its facts, joined by semicolons. Items of which nothing can be said are absent.

    Examples
    --------
    ``{"1": "sequel: Toy Story 2; same director as: A Bug's Life"}``
    """
    items = [item_id for item_id, title in titles.items() if title]
    row_of = {item_id: row for row, item_id in enumerate(items)}
    links = graph.links[graph.links[ITEM].isin(row_of)]
    places = pd.DataFrame({ROW: links[ITEM].map(row_of).astype(np.int64), ENTITY: links[ENTITY]})
    edges = _edges(graph.triples, places)
    joins_items = edges[ENTITY].isin(places[ENTITY])
    pairs = pd.concat([_direct(edges[joins_items], places), _shared(edges[~joins_items])])
    pairs = pairs[pairs[ROW] != pairs[OTHER]].sort_values(
        [ROW, SCORE, NAME, OTHER], ascending=[True, False, True, True]
    )
    told: dict[str, dict[str, list[str]]] = {}
    for row, name, other in zip(pairs[ROW], pairs[NAME], pairs[OTHER], strict=True):
        of_item = told.setdefault(items[row], {})
        if name not in of_item and len(of_item) == max_facts:
            continue
        of_fact = of_item.setdefault(name, [])
        if len(of_fact) < max_titles:
            of_fact.append(titles[items[other]])
    return {
        item_id: "; ".join(f"{name}: {', '.join(related)}" for name, related in of_item.items())
        for item_id, of_item in told.items()
        if of_item
    }


def _edges(triples: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    """Triples seen from items: columns ``row, entity_id, relation_id, inverse`` (the item is the tail)."""
    sides = [
        triples.merge(places, left_on=near, right_on=ENTITY)[[ROW, far, RELATION]]
        .rename(columns={far: ENTITY})
        .assign(**{INVERSE: near == TAIL})
        for near, far in ((HEAD, TAIL), (TAIL, HEAD))
    ]
    return pd.concat(sides, ignore_index=True).drop_duplicates()


def _direct(edges: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    """Pairs of items that a triple joins: columns ``row, name, other, score``."""

    def name(twins: list[tuple[str, bool]]) -> str:
        forward = sorted(relation for relation, inverse in twins if not inverse)
        return _pretty(forward[0]) if forward else f"{_pretty(min(twins)[0])} of"

    pairs = _named(edges, name).merge(places.rename(columns={ROW: OTHER}), on=ENTITY)
    return pairs.assign(**{SCORE: np.inf})[[ROW, NAME, OTHER, SCORE]].drop_duplicates()


def _shared(edges: pd.DataFrame) -> pd.DataFrame:
    """Pairs of items with an entity in common: columns ``row, name, other, score``, by the formula above."""
    item_types = {_freebase_type(relation) for relation in edges.loc[~edges[INVERSE], RELATION].unique()}

    def name(twins: list[tuple[str, bool]]) -> str:
        types = {_freebase_type(relation) for relation, inverse in twins if inverse} - item_types - {""}
        return f"same {min(types) if types else _pretty(min(twins, key=lambda twin: (twin[1], twin[0]))[0])} as"

    edges = _named(edges, name)
    entities_of_item = edges.groupby(NAME).size() / edges.groupby(NAME)[ROW].nunique()
    items_of_entity = edges.groupby([NAME, ENTITY])[ROW].transform("size")
    edges = edges.assign(**{SCORE: 1 / (items_of_entity * edges[NAME].map(entities_of_item))})
    edges = edges[items_of_entity.between(2, MAX_SHARED)]
    others = edges[[NAME, ENTITY, ROW]].rename(columns={ROW: OTHER})
    pairs = edges.merge(others, on=[NAME, ENTITY])
    return pairs.groupby([ROW, NAME, OTHER])[SCORE].sum().reset_index()


def _named(edges: pd.DataFrame, name: Callable[[list[tuple[str, bool]]], str]) -> pd.DataFrame:
    """Edges by readable name, each once: columns ``name, row, entity_id``.

    Many graphs hold each fact in both directions (``film.film.directed_by`` and ``film.director.film``). Relations that
    join the same items to the same entities are twins, and get one name between them.
    """
    codes, entities = pd.factorize(edges[ENTITY])
    joined = edges[ROW].to_numpy() * max(len(entities), 1) + codes
    twins: dict[bytes, list[tuple[str, bool]]] = {}
    for key, rows in edges.groupby([RELATION, INVERSE]).indices.items():
        twins.setdefault(np.sort(joined[rows]).tobytes(), []).append(cast(tuple[str, bool], key))
    names = {key: name(keys) for keys in twins.values() for key in keys}
    named = [names[key] for key in zip(edges[RELATION], edges[INVERSE], strict=True)]
    return pd.DataFrame({NAME: named, ROW: edges[ROW], ENTITY: edges[ENTITY]}).drop_duplicates()


def _freebase_type(relation: str) -> str:
    """Readable type of the head of ``domain.type.property`` (Freebase: Bollacker et al., 2008), else empty."""
    parts = relation.split(".")
    return parts[1].replace("_", " ") if len(parts) == 3 else ""


def _pretty(relation: str) -> str:
    """Readable last segment: ``award nomination`` for ``film.film.award_nomination`` or ``…/award_nomination``."""
    return re.split(r"[./#:]", relation.rstrip("./#:"))[-1].replace("_", " ") or relation
