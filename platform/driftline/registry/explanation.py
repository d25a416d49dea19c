"""Why each item is in a list: facts, and one sentence made from them by a template.

Facts are the events of the history that carried the item (see :mod:`driftline.ranking.explain` for what exactly a
contribution is), what the knowledge graph says about the item and an item of the history, the policy's reason, and
whether the item is new.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from driftline.catalog.text import compose
from driftline.ranking.explain import Contributions, Reading, SubsetScores, contributions
from driftline.ranking.requests import Policy, RankRequest

if TYPE_CHECKING:
    from driftline.registry.model import Model

MOST_EVENTS: Final = 5
"""Events that are named for each item; the others are summed up."""
_FACT: Final = re.compile(r"(?:.*\. )?(?P<relation>[^:]+): (?P<titles>.+)")


@dataclass(frozen=True)
class Carrier:
    """An event of the history and its contribution to a score, in nats; ``position`` is its index in the history."""

    position: int
    item_id: str
    title: str
    contribution: float


@dataclass(frozen=True)
class GraphPath:
    """``item_id`` of the history stands in ``relation`` to the recommended item, says the knowledge graph."""

    relation: str
    item_id: str
    title: str


@dataclass(frozen=True)
class ItemExplanation:
    """Facts about one item of a list.

    Parameters
    ----------
    score, baseline
        Log-probability with the history and with an empty one; ``carriers`` and ``other_events`` add up to their
        difference.
    carriers
        Events of the largest contributions in absolute value, largest first.
    other_events
        Sum of all other contributions.
    cold_start
        Why the score stands on little, or ``None``.
    """

    item_id: str
    title: str
    score: float
    baseline: float
    carriers: list[Carrier]
    other_events: float
    graph: list[GraphPath]
    cold_start: str | None
    sentence: str


def explain(model: "Model", request: RankRequest, items: Sequence[str], policy: Policy) -> list[ItemExplanation]:
    """Explain some items of the list that ``request`` was answered with.

    Parameters
    ----------
    request
        As it was ranked; its drift report is the one that the policy acted on, its ``candidates`` do not matter.
    items
        Ids of the catalogue or of ``request.new_items``; others are passed over.
    policy
        As it was served.
    """
    positions = [p for p, item in enumerate(request.history) if item in model.catalog.index]
    new = {i: text for i, text in (request.new_items or {}).items() if i not in model.catalog.index}
    column = {**model.catalog.index, **{item: len(model.item_ids) + n for n, item in enumerate(new)}}
    explained = [item for item in items if item in column]
    reading = _reading(model, request, positions, policy)
    vectors = model.read(list(new.values())) if new else None
    targets_K = np.array([column[item] for item in explained], dtype=np.int64)
    scores = SubsetScores(model.scorer, reading, targets_K, vectors)
    shared = contributions(scores, reading, model.config.encoder.window_events)
    return [_explanation(model, request, positions, shared, k, item, policy, new) for k, item in enumerate(explained)]


def _reading(model: "Model", request: RankRequest, positions: Sequence[int], policy: Policy) -> Reading:
    read = model.history_of(request, positions)
    change = request.drift.change_point if request.drift else None
    return Reading(
        items_n=read.items,
        times_n=read.times_s,
        types_n=read.types,
        attributes=read.attributes,
        recent_from=int(np.searchsorted(positions, change)) if change is not None else 0,
        weight_recent=policy.weight_recent if change is not None else 0.0,
        p_drift=request.drift.p_drift if request.drift else 0.0,
        seen=np.empty(0, np.int64) if request.keep_seen else read.items,
        now_s=read.now_s,
    )


def _explanation(
    model: "Model",
    request: RankRequest,
    positions: Sequence[int],
    shared: Contributions,
    k: int,
    item_id: str,
    policy: Policy,
    new: dict[str, str],
) -> ItemExplanation:
    shares = shared.contribution_PK[:, k]
    single = [(n, first) for n, (first, stop) in enumerate(shared.players) if stop - first == 1]
    strongest = sorted(single, key=lambda player: -abs(shares[player[0]]))[:MOST_EVENTS]
    carriers = [
        Carrier(positions[event], *_named(model, request.history[positions[event]]), float(shares[n]))
        for n, event in strongest
    ]
    title = model.titles.get(item_id) or new.get(item_id, item_id)
    graph = graph_paths(model, item_id, request.history)
    cold_start = _cold_start(model, item_id, policy)
    return ItemExplanation(
        item_id=item_id,
        title=title,
        score=float(shared.score_K[k]),
        baseline=float(shared.baseline_K[k]),
        carriers=carriers,
        other_events=float(shares.sum() - sum(carrier.contribution for carrier in carriers)),
        graph=graph,
        cold_start=cold_start,
        sentence=sentence(title, carriers, graph, policy, cold_start),
    )


def _named(model: "Model", item_id: str) -> tuple[str, str]:
    return item_id, model.titles.get(item_id, item_id)


def _cold_start(model: "Model", item_id: str, policy: Policy) -> str | None:
    place = model.catalog.index.get(item_id)
    if place is None:
        return "the item is not in the bundle: it is ranked from its text alone"
    if not model.contents.tables.popularity_N[place]:
        return "nobody in the training data had the item: it is ranked from its text"
    return policy.reason if policy.name == "cold-start" else None


def graph_paths(model: "Model", item_id: str, history: Sequence[str]) -> list[GraphPath]:
    """What the item's text says of items of the history, where facts of a knowledge graph are part of it."""
    place = model.catalog.index.get(item_id)
    if place is None:
        return []
    catalog = model.catalog
    text = catalog.texts[place]
    told = text.removeprefix(compose(catalog.titles[place], catalog.years[place], catalog.categories[place]))
    facts = [found for part in told.strip().rstrip(".").split("; ") if (found := _FACT.fullmatch(part))]
    had = {model.titles[item]: item for item in history if item in model.titles and item != item_id}
    return [
        GraphPath(fact["relation"], item, title)
        for fact in facts
        for title, item in had.items()
        if f", {title}, " in f", {fact['titles']}, "
    ]


def sentence(
    title: str, carriers: Sequence[Carrier], graph: Sequence[GraphPath], policy: Policy, cold_start: str | None
) -> str:
    """The facts in one sentence; nothing is in it that the facts do not say."""
    speaks = [carrier for carrier in carriers if carrier.contribution > 0][:2]
    if speaks:
        reasons = [f"mostly because of {' and '.join(carrier.title for carrier in speaks)}"]
    else:
        reasons = ["for its standing with everybody, not because of anything in the history"]
    if graph:
        reasons.append(f"{graph[0].relation}: {graph[0].title}")
    if policy.name in ("drifting", "reset"):
        reasons.append(
            "what came since the change of taste counts more"
            if policy.weight_recent < 1
            else "only what came since the change of taste counts"
        )
    if cold_start is not None:
        reasons.append(cold_start)
    return f"{title} is in the list {'; '.join(reasons)}."
