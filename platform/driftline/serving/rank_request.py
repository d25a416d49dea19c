"""From what is asked over HTTP to what a model is asked: the tenant's catalogue, business rules, items already had."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from driftline.ranking.filters import NO_RULES
from driftline.ranking.requests import RankRequest
from driftline.registry.lookup import LookupRequest
from driftline.registry.model import Model
from driftline.serving.calls import LookupQuestion, RankQuestion
from driftline.serving.catalogue import TenantCatalogue


@dataclass(frozen=True)
class Resolved:
    """A model's request, and the given candidates that are not in it.

    Parameters
    ----------
    unknown
        Nobody has described them, or they were deleted.
    unavailable
        They cannot be had at present.
    """

    request: RankRequest
    unknown: Sequence[str] = ()
    unavailable: Sequence[str] = ()


def rank_request(question: RankQuestion, model: Model, catalogue: TenantCatalogue) -> Resolved:
    """Work out the candidates of a list; an unavailable item is never one of them."""
    given = question.candidates
    unknown, unavailable = _missing(given or (), model, catalogue)
    seen = question.seen or (None if given is None else "include")
    candidates = _allowed(question, model, catalogue)
    if given is not None:
        lost = {*unknown, *unavailable}
        candidates = _among([c for c in given if c not in lost], candidates)
    request = RankRequest(
        history=question.history,
        k=question.k,
        exclude=_barred(question, catalogue, seen, question.history),
        candidates=_among(candidates, question.history if seen == "only" else None),
        keep_seen=seen in ("include", "only"),
        new_items=catalogue.new_texts(model.catalog.index) or None,
        diversity=question.diversity,
        drift=question.drift if question.drift_bundle == model.version else None,
        caps=question.caps,
        categories={} if question.caps is None else {i: entry.categories for i, entry in catalogue.entries.items()},
        times_s=question.times_s,
        types=question.types,
        now_s=question.now_s,
    )
    return Resolved(request, unknown, unavailable)


def lookup_request(question: LookupQuestion, model: Model, catalogue: TenantCatalogue) -> LookupRequest:
    """Work out where to look. Items that the user has had are found too, unless ``seen`` says otherwise."""
    had = question.history or ()
    return LookupRequest(
        item_id=question.item_id,
        text=question.text,
        by_words=question.by_words,
        k=question.k,
        exclude=_barred(question, catalogue, question.seen, had),
        candidates=_among(_allowed(question, model, catalogue), had if question.seen == "only" else None),
        new_items=catalogue.new_texts(model.catalog.index) or None,
        history=question.history,
        drift=question.drift if question.drift_bundle == model.version else None,
        weight=question.weight,
        times_s=question.times_s,
        types=question.types,
        now_s=question.now_s,
    )


def categories_of(item_id: str, model: Model, catalogue: TenantCatalogue) -> tuple[str, ...]:
    """Categories of an item as the tenant wrote them, else as the bundle knows them."""
    entry = catalogue.entries.get(item_id)
    if entry is not None:
        return entry.categories
    place = model.catalog.index.get(item_id)
    return model.catalog.categories[place] if place is not None else ()


def _missing(given: Iterable[str], model: Model, catalogue: TenantCatalogue) -> tuple[list[str], list[str]]:
    unknown, unavailable = [], []
    for item_id in given:
        described = item_id in model.catalog.index or item_id in catalogue.entries
        if not described or item_id in catalogue.deleted:
            unknown.append(item_id)
        elif item_id in catalogue.unavailable:
            unavailable.append(item_id)
    return unknown, unavailable


def _allowed(question: RankQuestion | LookupQuestion, model: Model, catalogue: TenantCatalogue) -> list[str] | None:
    """Items that the rules leave; ``None`` where there are no rules: a catalogue is long."""
    if question.rules == NO_RULES:
        return None if question.only_items is None else list(question.only_items)
    open_N = model.fields.admitted(question.rules)
    admitted = [item for item in (model.item_ids[n] for n in np.flatnonzero(open_N)) if item not in catalogue.entries]
    admitted += [i for i, entry in catalogue.entries.items() if question.rules.admit(entry.categories, entry.year)]
    return _among(admitted, question.only_items)


def _among(items: list[str] | None, others: Sequence[str] | None) -> list[str] | None:
    """Intersection, where ``None`` means everything."""
    if items is None or others is None:
        return items if others is None else list(dict.fromkeys(others))
    wanted = set(others)
    return [item for item in items if item in wanted]


def _barred(
    question: RankQuestion | LookupQuestion, catalogue: TenantCatalogue, seen: str | None, history: Sequence[str]
) -> list[str]:
    had = dict.fromkeys(history) if seen == "exclude" else ()
    return [*question.exclude, *catalogue.deleted, *catalogue.unavailable, *had]
