"""Looking things up with a loaded bundle: items like an item, items like a text, documents like a query.

    model = driftline.load("…/bundles/demo-20260101-120000")
    model.lookup.find([LookupRequest(text="a heist in Paris", k=5)])[0][0].title

One space serves all three: the vectors of the text tower, which was aligned to collaborative factors and so knows both
what things are and who likes them.

Shape legend: N items of the bundle, M new items, D width of a text vector.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from driftline.drift.report import DriftVerdict
from driftline.errors import UnknownIdError
from driftline.ranking.order import best_first
from driftline.ranking.requests import RankRequest
from driftline.ranking.similar import Relevance, WordIndex, personal_score, standing, text_match

if TYPE_CHECKING:
    from driftline.registry.model import Model

SEARCH_WEIGHT = 0.2
"""Weight of a user's taste in a search: it outweighs a difference in match of 0.25 at most."""


@dataclass(frozen=True)
class LookupRequest:
    """What to look for: give exactly one of ``item_id`` and ``text``.

    Parameters
    ----------
    item_id
        Find items like this one; it is not in the list itself.
    text
        Find items like this text.
    by_words
        Let shared words count too, as a search should; the meaning alone counts where it is off.
    k
        Length of the list.
    exclude, candidates, new_items
        As in :class:`~driftline.ranking.requests.RankRequest`.
    history
        Item ids of the user whose taste has a say; ``None`` for nobody.
    drift, times_s, types, attributes, now_s
        The user's stored drift state, the history's moments and event types, the user's attributes and the present, as
        in ``RankRequest``.
    weight
        Weight of the taste, 0 to 0.5.
    """

    item_id: str | None = None
    text: str | None = None
    by_words: bool = False
    k: int = 10
    exclude: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    new_items: Mapping[str, str] | None = None
    history: Sequence[str] | None = None
    drift: DriftVerdict | None = None
    weight: float = SEARCH_WEIGHT
    times_s: Sequence[float] | None = None
    types: Sequence[str] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    now_s: float | None = None

    def __post_init__(self) -> None:
        if (self.item_id is None) == (self.text is None):
            raise ValueError("give exactly one of item_id and text")
        if not 0 <= self.weight <= 0.5:
            raise ValueError(f"weight={self.weight}: must be 0 to 0.5, or the taste would outweigh the question")


@dataclass(frozen=True)
class Found:
    """One place of a list. All figures are in 0..1; lists are in the order of ``score``.

    Parameters
    ----------
    match
        How well the item answers the question.
    taste
        The item's place in the user's taste; ``None`` where no user has a say.
    """

    item_id: str
    title: str
    score: float
    match: float
    taste: float | None


class Lookup:
    """Questions to one model.

    Parameters
    ----------
    model
        The loaded bundle.
    """

    def __init__(self, model: "Model") -> None:
        self.model = model
        self._vectors_ND: NDArray[np.float32] = model.scorer.text_vectors_NT.numpy()
        self._relevance = Relevance.fit(self._vectors_ND, model.config.text.temperature)
        self._words = WordIndex(model.catalog.texts)

    def find(self, requests: Sequence[LookupRequest]) -> list[list[Found]]:
        """Answer many questions of one tenant; their texts and their users share a pass through the models.

        Raises
        ------
        UnknownIdError
            If an ``item_id`` is neither in the catalogue nor in ``new_items``.
        """
        questions = [self._question_text(request) for request in requests]
        new_texts = list(dict.fromkeys(text for r in requests for text in (r.new_items or {}).values()))
        asked = [text for text in questions if text is not None]
        vectors = dict(zip([*asked, *new_texts], self._encode([*asked, *new_texts]), strict=True))
        tastes = self._tastes(requests)
        answers = []
        for row, (request, text) in enumerate(zip(requests, questions, strict=True)):
            if text is not None:
                question_D = vectors[text]
            else:
                question_D = self._vectors_ND[self.model.catalog.index[request.item_id or ""]]
            answers.append(self._answer(request, question_D, vectors, tastes.get(row)))
        return answers

    def relevance(self, query: str, documents: Sequence[str], max_tokens: int) -> NDArray[np.float64]:
        """Relevance in (0, 1) of each document to a query.

        Parameters
        ----------
        max_tokens
            Of a document; the tower itself reads ``config.text.max_tokens`` at most.
        """
        if max_tokens < self.model.config.text.max_tokens:
            documents = [self.model.text_encoder.tokenizer.head(text, max_tokens) for text in documents]
        vectors = self._encode([query, *documents]).astype(np.float64)
        return self._relevance(vectors[1:] @ vectors[0])

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self._vectors_ND.shape[1]), dtype=np.float32)
        return np.asarray(self.model.text_encoder.encode(texts).numpy(), dtype=np.float32)

    def _question_text(self, request: LookupRequest) -> str | None:
        """The text to encode; ``None`` for an item whose vector the bundle holds."""
        if request.item_id is None:
            return request.text
        if request.item_id in self.model.catalog.index:
            return None
        text = (request.new_items or {}).get(request.item_id)
        if text is None:
            raise UnknownIdError(f"item {request.item_id!r} is not in the catalogue: add it with its text first")
        return text

    def _tastes(self, requests: Sequence[LookupRequest]) -> dict[int, NDArray[np.float32]]:
        """``log_p_(N+M)`` of the user's next item, by place in ``requests``; items of the history are not masked."""
        rows = [row for row, request in enumerate(requests) if request.history is not None]
        if not rows:
            return {}
        ranked = [
            RankRequest(
                r.history or (),
                keep_seen=True,
                new_items=r.new_items,
                drift=r.drift,
                times_s=r.times_s,
                types=r.types,
                attributes=r.attributes,
                now_s=r.now_s,
            )
            for r in (requests[row] for row in rows)
        ]
        log_p_BC = self.model.log_probabilities(ranked)
        columns = {pair: place for place, pair in enumerate(self._new(*ranked), start=len(self.model.item_ids))}
        known = len(self.model.item_ids)
        return {
            row: np.append(log_p_BC[number, :known], log_p_BC[number, [columns[pair] for pair in self._new(request)]])
            for number, (row, request) in enumerate(zip(rows, ranked, strict=True))
        }

    def _new(self, *requests: LookupRequest | RankRequest) -> list[tuple[str, str]]:
        """New items ``(id, text)`` in the order of the columns of :meth:`Model.log_probabilities`."""
        described = (pair for request in requests for pair in (request.new_items or {}).items())
        return list(dict.fromkeys(pair for pair in described if pair[0] not in self.model.catalog.index))

    def _answer(
        self,
        request: LookupRequest,
        question_D: NDArray[np.float32],
        vectors: Mapping[str, NDArray[np.float32]],
        log_p: NDArray[np.float32] | None,
    ) -> list[Found]:
        catalog = self.model.catalog
        new = self._new(request)
        ids = [*catalog.ids, *(item_id for item_id, _ in new)]
        cosine = self._vectors_ND @ question_D
        if new:
            cosine = np.concatenate([cosine, np.stack([vectors[text] for _, text in new]) @ question_D])
        match = self._relevance(cosine.astype(np.float64))
        if request.by_words and request.text is not None:
            match = text_match(match, self._words.shares(request.text, [text for _, text in new]))
        choice = self._choice(request, new)
        score, taste = match[choice], None
        if log_p is not None:
            taste = standing(log_p[choice])
            score = personal_score(match[choice], taste, request.weight)
        texts = dict(new)
        return [
            Found(
                item_id=ids[choice[place]],
                title=self.model.titles.get(ids[choice[place]]) or texts[ids[choice[place]]],
                score=float(score[place]),
                match=float(match[choice[place]]),
                taste=None if taste is None else float(taste[place]),
            )
            for place in best_first(score, request.k).tolist()
        ]

    def _choice(self, request: LookupRequest, new: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
        """Places that may be in the list: those of the catalogue, then those of the new items."""
        index = self.model.catalog.index
        more = {item_id: place for place, (item_id, _) in enumerate(new, start=len(index))}

        def places(items: Iterable[str]) -> list[int]:
            known = (index.get(item, more.get(item)) for item in items)
            return [place for place in known if place is not None]

        open_N = np.full(len(index) + len(new), request.candidates is None)
        open_N[places(request.candidates or ())] = True
        open_N[places([*request.exclude, *filter(None, [request.item_id])])] = False
        return np.flatnonzero(open_N)
