"""A loaded bundle: what ``driftline.load`` returns.

    model = driftline.load("…/bundles/demo-20260101-120000")
    model.recommend(["50", "181"], k=10).items[0].title
    model.drift(history).p_drift

Histories are external item ids, oldest first. Ids that the catalogue lacks are passed over and listed in the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from driftline.catalog.attributes import Attributes
from driftline.drift.detector import DriftDetector
from driftline.drift.judge.judge import Judge
from driftline.drift.report import DriftReport, DriftVerdict
from driftline.drift.state import DriftState
from driftline.errors import BundleError, UnknownIdError
from driftline.models.adapters import load_adapter_state
from driftline.models.build import base_model, build_text_tower
from driftline.models.text_precision import TextPrecision, check_text_precision, in_precision
from driftline.models.text_tower import TextEncoder, Tokenizer
from driftline.ranking.caps import CategoryCaps, capped
from driftline.ranking.diversity import mmr
from driftline.ranking.filters import FieldIndex
from driftline.ranking.order import best_first
from driftline.ranking.policy import decide, mixture
from driftline.ranking.requests import Policy, RankedItem, RankRequest, Recommendation
from driftline.ranking.scoring import Scorer
from driftline.registry.bundle import Manifest, open_bundle
from driftline.registry.contents import Contents
from driftline.registry.lookup import Lookup
from driftline.sequences.batches import History
from driftline.sequences.event_types import type_numbers

POOL_PER_PLACE = 20
"""Candidates that diversity may choose from, for each place of the list."""
REACH_FACTOR = 10
"""By how much more candidates are looked at where limits by category leave a list short."""


def load(path: Path | str, text_precision: TextPrecision = "fp32") -> "Model":
    """Load a bundle after checking every checksum.

    Parameters
    ----------
    text_precision
        Of the language model that reads texts which the catalogue lacks. The others than fp32 are faster, and their
        vectors a little off those of the catalogue.

    Raises
    ------
    BundleError
        If it is missing, corrupt, or of another format version.
    ConfigError
        If this CPU has no instructions for ``text_precision``.
    """
    check_text_precision(text_precision)
    folder, manifest = open_bundle(path)
    return Model(Contents.load(folder), manifest, text_precision)


class Model:
    """Ranking and drift detection over one bundle, in a plain process.

    Parameters
    ----------
    contents
        The parts of the bundle.
    manifest
        None for a model that is still being assembled.
    text_precision
        See :func:`load`.
    """

    def __init__(
        self, contents: Contents, manifest: Manifest | None = None, text_precision: TextPrecision = "fp32"
    ) -> None:
        self.contents = contents
        self.manifest = manifest
        self.text_precision = text_precision
        self.config = contents.config
        self.catalog = contents.catalog
        self.item_ids = list(contents.catalog.ids)
        self.titles = dict(zip(contents.catalog.ids, contents.catalog.titles, strict=True))
        self.held_out_users = list(contents.held_out_users)
        self.scorer = Scorer(
            contents.build_ranker(),
            contents.tables,
            contents.text_vectors_NT,
            contents.gate,
            mask_seen=not contents.catalog.repeat_consumption,
        )
        self.detector: DriftDetector | None = None
        self.judge: Judge | None = None
        if contents.calibration is not None:
            self.judge = contents.build_judge()
            verifier_ND = None if contents.verifier_ND is None else contents.verifier_ND.numpy()
            self.detector = DriftDetector(
                contents.build_drift_model(), contents.calibration, self.config.drift, self.judge, verifier_ND
            )

    @property
    def version(self) -> str:
        """The bundle's id."""
        return self.manifest.id if self.manifest else "unsaved"

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        *,
        exclude: Sequence[str] = (),
        candidates: Sequence[str] | None = None,
        new_items: Mapping[str, str] | None = None,
        diversity: float | None = None,
        times_s: Sequence[float] | None = None,
        types: Sequence[str] | None = None,
        attributes: Mapping[str, str] | None = None,
        now_s: float | None = None,
    ) -> Recommendation:
        """The best ``k`` items for what comes next.

        Parameters
        ----------
        history
            External item ids, oldest first.
        exclude
            Ids that must not be recommended.
        candidates
            Ids to choose from; None = the whole catalogue and ``new_items``.
        new_items
            Text by id of items that the catalogue lacks: they are ranked from their text alone.
        diversity
            MMR trade-off 0..1; None = the bundle's policy.
        times_s, types, now_s
            When each event of the history happened, in seconds, and its event type; when the list is asked for, which
            bundles trained with ``encoder.target_gap`` read. None = unknown.
        attributes
            Of the user: value by name, among those that the bundle reads (``data.user_attributes``).
        """
        request = RankRequest(
            history, k, exclude, candidates, False, new_items, diversity,
            times_s=times_s, types=types, attributes=attributes or {}, now_s=now_s,
        )  # fmt: skip
        return self.recommend_batch([request])[0]

    def rank(
        self,
        history: Sequence[str],
        candidates: Sequence[str],
        *,
        new_items: Mapping[str, str] | None = None,
        times_s: Sequence[float] | None = None,
        types: Sequence[str] | None = None,
        attributes: Mapping[str, str] | None = None,
        now_s: float | None = None,
    ) -> Recommendation:
        """All candidates in order, also those the user already has; the rest as in :meth:`recommend`.

        Raises
        ------
        UnknownIdError
            If a candidate is neither in the catalogue nor in ``new_items``.
        """
        unknown = [item for item in candidates if item not in self.catalog.index and item not in (new_items or {})]
        if unknown:
            raise UnknownIdError(
                f"unknown candidates {unknown[:5]}: not in the catalogue; pass their text as new_items"
            )
        request = RankRequest(
            history, len(candidates), (), candidates, True, new_items, 0.0,
            times_s=times_s, types=types, attributes=attributes or {}, now_s=now_s,
        )  # fmt: skip
        return self.recommend_batch([request])[0]

    def score(
        self,
        history: Sequence[str],
        times_s: Sequence[float] | None = None,
        types: Sequence[str] | None = None,
        attributes: Mapping[str, str] | None = None,
        now_s: float | None = None,
    ) -> pd.Series:
        """Log-probability of every catalogue item being next, by external id; ``-inf`` where it cannot be."""
        request = RankRequest(history, times_s=times_s, types=types, attributes=attributes or {}, now_s=now_s)
        log_p = self.log_probabilities([request])
        return pd.Series(log_p[0], index=pd.Index(self.item_ids, name="item_id"), name="score")

    def log_probabilities(self, requests: Sequence[RankRequest]) -> NDArray[np.float32]:
        """Scores behind :meth:`recommend_batch`, policy included: B by catalogue items and the requests' new items."""
        return self._log_probabilities(requests)[0]

    def drift(self, history: Sequence[str]) -> DriftReport:
        """Has this user changed? See :class:`~driftline.drift.report.DriftReport`."""
        return self.drift_batch([history])[0]

    def drift_batch(self, histories: Sequence[Sequence[str]]) -> list[DriftReport]:
        """:meth:`drift` of many users at once.

        Raises
        ------
        BundleError
            If the bundle was trained with ``drift.enabled=false``.
        """
        detector = self._drift_part()
        positions, items = self._known(histories)
        return [
            scan.report(kept, list(history))
            for scan, kept, history in zip(detector.scan(items), positions, histories, strict=True)
        ]

    def follow_drift(
        self, histories: Sequence[Sequence[str]], states: Sequence[bytes | None]
    ) -> list[tuple[DriftVerdict, bytes]]:
        """The verdicts of :meth:`drift_batch`, each with a state to go on from when the history has grown.

        Given such a state, only what came since is read: the n-th event costs little more than the one after a window.

        Parameters
        ----------
        states
            From an earlier call, for a part of the same history; None, or that of another bundle = read the window.

        Raises
        ------
        BundleError
            If the bundle was trained with ``drift.enabled=false``.
        """
        detector = self._drift_part()
        positions, items = self._known(histories)
        before = [None if state is None else DriftState.from_bytes(state, self.version) for state in states]
        return [
            (verdict.at(kept), state.to_bytes(self.version))
            for (verdict, state), kept in zip(detector.follow(items, before), positions, strict=True)
        ]

    def recommend_batch(self, requests: Sequence[RankRequest]) -> list[Recommendation]:
        """Many lists at once; the histories share one pass through the models."""
        if not requests:
            return []
        log_p_BN, new, policies, reports = self._log_probabilities(requests)
        return [
            self._list(request, log_p_BN[row], new, policies[row], reports[row]) for row, request in enumerate(requests)
        ]

    def _log_probabilities(
        self, requests: Sequence[RankRequest]
    ) -> tuple[NDArray[np.float32], list[str], list[Policy], list[DriftVerdict | None]]:
        """Policy by policy: the whole history, and for drifting users also what came since the change.

        Columns are those of the catalogue, then the new items whose ids come second.
        """
        reports = self._reports(requests)
        described = [r.new_items or {} for r in requests]
        new = list(dict.fromkeys((i, t) for d in described for i, t in d.items() if i not in self.catalog.index))
        vectors = self.read([text for _, text in new]) if new else None
        offered_BM = np.array([[d.get(i) == t for i, t in new] for d in described], dtype=bool)
        kept = [self._known_positions(request.history) for request in requests]
        policies = [decide(self.config.ranking.policy, len(k), r) for k, r in zip(kept, reports, strict=True)]
        whole = [self.history_of(request, k) for request, k in zip(requests, kept, strict=True)]
        recent = {
            row: self.history_of(request, [p for p in kept[row] if p >= report.change_point])
            for row, (request, report) in enumerate(zip(requests, reports, strict=True))
            if policies[row].weight_recent and report is not None and report.change_point is not None
        }
        seen = [np.empty(0, np.int64) if r.keep_seen else h.items for r, h in zip(requests, whole, strict=True)]
        p_drift = np.array([report.p_drift if report else 0.0 for report in reports])
        log_p = self.scorer.log_probabilities(
            whole + list(recent.values()),
            seen + [seen[row] for row in recent],
            np.concatenate([p_drift, p_drift[list(recent)]]),
            vectors,
            offered_BM[[*range(len(requests)), *recent]] if new else None,
        )
        mixed = log_p[: len(requests)]
        for number, row in enumerate(recent):
            mixed[row] = mixture(mixed[row], log_p[len(requests) + number], policies[row].weight_recent)
        return mixed, [item for item, _ in new], policies, reports

    def _reports(self, requests: Sequence[RankRequest]) -> list[DriftVerdict | None]:
        """Stored drift states where given, computed ones elsewhere."""
        reports: list[DriftVerdict | None] = [request.drift for request in requests]
        missing = [row for row, report in enumerate(reports) if report is None]
        if self.detector is not None and missing:
            for row, report in zip(missing, self.drift_batch([requests[r].history for r in missing]), strict=True):
                reports[row] = report
        return reports

    def _list(
        self,
        request: RankRequest,
        log_p_N: NDArray[np.float32],
        new: list[str],
        policy: Policy,
        report: DriftVerdict | None,
    ) -> Recommendation:
        places = {item: n for n, item in enumerate(new, start=len(self.item_ids)) if log_p_N[n] > -np.inf}
        places_of = partial(self._places, places)
        scores_N = log_p_N
        if request.candidates is not None:
            chosen = places_of(request.candidates)
            scores_N = np.full_like(log_p_N, -np.inf)
            scores_N[chosen] = log_p_N[chosen]
        scores_N[places_of(request.exclude)] = -np.inf
        texts = request.new_items or {}
        items = []
        for n in self._chosen(scores_N, new, request).tolist():
            item_id = self._id(n, new)
            items.append(RankedItem(item_id, self.titles.get(item_id) or texts[item_id], float(scores_N[n])))
        return Recommendation(items, policy, report, [i for i in request.history if i not in self.catalog.index])

    def _places(self, new: Mapping[str, int], items: Sequence[str]) -> list[int]:
        """Columns of the items that there are; ``new`` knows those of new items."""
        found = (self.catalog.index.get(item, new.get(item)) for item in items)
        return [place for place in found if place is not None]

    def _id(self, place: int, new: Sequence[str]) -> str:
        return self.item_ids[place] if place < len(self.item_ids) else new[place - len(self.item_ids)]

    def _chosen(self, scores_N: NDArray[np.float32], new: Sequence[str], request: RankRequest) -> NDArray[np.int64]:
        """The list out of all candidates, best first: diversity among the best of them, limits by category in all."""
        diversity = self.config.ranking.policy.diversity if request.diversity is None else request.diversity
        if request.caps is None and not diversity:
            return best_first(scores_N, request.k)
        num_diverse = POOL_PER_PLACE * request.k if diversity else 0
        reach = POOL_PER_PLACE * request.k
        while True:
            best, caps = best_first(scores_N, reach), None
            if request.caps is not None:
                caps = CategoryCaps([self._categories(self._id(n, new), request) for n in best.tolist()], request.caps)
            pool = best[:num_diverse]
            order = mmr(
                scores_N[pool].astype(np.float64), self._vectors(pool, new, request), request.k, diversity, caps
            )
            if caps is not None:
                order += capped(range(len(pool), len(best)), request.k - len(order), caps)
            if caps is None or len(order) == request.k or len(best) < reach:
                return best[order]
            reach *= REACH_FACTOR  # the limits closed too many of the best: what is chosen already stays chosen

    def _categories(self, item_id: str, request: RankRequest) -> Sequence[str]:
        place = self.catalog.index.get(item_id)
        return request.categories.get(item_id, () if place is None else self.catalog.categories[place])

    def _vectors(self, chosen: NDArray[np.int64], new: Sequence[str], request: RankRequest) -> NDArray[np.float32]:
        """Item vectors for diversity."""
        is_new = chosen >= len(self.item_ids)
        vectors = np.zeros((len(chosen), self.scorer.table_ND.shape[1]), dtype=np.float32)
        vectors[~is_new] = self.scorer.table_ND[torch.from_numpy(chosen[~is_new])].numpy()
        texts = [(request.new_items or {})[self._id(n, new)] for n in chosen[is_new].tolist()]
        if texts:
            with torch.no_grad():
                encoded = self.text_encoder.encode(texts)
                vectors[is_new] = self.scorer.ranker.items.from_text(encoded).numpy()
        return vectors

    @cached_property
    def lookup(self) -> Lookup:
        """Items like an item or a text, documents like a query."""
        return Lookup(self)

    @cached_property
    def fields(self) -> FieldIndex:
        """Categories and years of the catalogue, for business rules."""
        return FieldIndex(self.catalog.categories, self.catalog.years)

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The text tower; loaded at the first text that is not in the catalogue."""
        tower = build_text_tower(self.config)
        state = {n.removeprefix("tower."): t for n, t in self.contents.text.items() if n.startswith("tower.")}
        load_adapter_state(tower, state)
        tower = in_precision(tower, self.text_precision)
        return TextEncoder(tower, Tokenizer(base_model(self.config), self.config.text.max_tokens))

    def read(self, texts: Sequence[str]) -> torch.Tensor:
        """What texts that the catalogue lacks say of their items, as the scorer takes it: ``features_MF``."""
        return torch.cat([torch.from_numpy(self._attributes(texts)), self.text_encoder.encode(texts)], dim=1)

    @cached_property
    def _attributes(self) -> Attributes:
        return Attributes.of(self.catalog.texts)

    def _drift_part(self) -> DriftDetector:
        if self.detector is None:
            raise BundleError(f"bundle {self.version} has no drift part: it was trained with drift.enabled=false")
        return self.detector

    def _known(self, histories: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[NDArray[np.int64]]]:
        """Positions of the known items of each history, and their indices."""
        positions = [self._known_positions(history) for history in histories]
        return positions, [self._indices(h, kept) for h, kept in zip(histories, positions, strict=True)]

    def _known_positions(self, history: Sequence[str]) -> list[int]:
        return [position for position, item in enumerate(history) if item in self.catalog.index]

    def history_of(self, request: RankRequest, positions: Sequence[int]) -> History:
        """The events of known items at these positions, as the models read them."""
        times, types = request.times_s, request.types
        return History(
            self._indices(request.history, positions),
            None if times is None else np.array([times[p] for p in positions], dtype=np.float64),
            types=None if types is None else type_numbers(types[p] for p in positions),
            attributes=self.contents.user_attributes.numbers(request.attributes),
            now_s=request.now_s if self.config.encoder.target_gap else None,
        )

    def _indices(self, history: Sequence[str], positions: Sequence[int]) -> NDArray[np.int64]:
        return np.array([self.catalog.index[history[p]] for p in positions], dtype=np.int64)

    def with_contents(self, **parts: object) -> "Model":
        """The same model with some parts replaced (used while a bundle is assembled)."""
        return Model(replace(self.contents, **parts), self.manifest, self.text_precision)  # type: ignore[arg-type]
