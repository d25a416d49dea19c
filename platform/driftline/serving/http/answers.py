"""From what the deployments say to the bodies of responses."""

from collections.abc import Sequence
from dataclasses import asdict

from driftline.drift.report import DriftVerdict
from driftline.ranking.requests import Policy
from driftline.registry.explanation import ItemExplanation
from driftline.serving import telemetry
from driftline.serving.arms import Arms
from driftline.serving.calls import Assessment, ExplainQuestion, Portrait, Ranking, Serving, UserView
from driftline.serving.http.messages.base import finite_or_none
from driftline.serving.http.messages.bundles import ArmOut, BundlesOut, ConfiguredOut, PromotionOut, ReplicaOut
from driftline.serving.http.messages.drift import DriftVerdictOut, EvidenceOut
from driftline.serving.http.messages.explanations import ExplanationOut, ItemExplanationOut
from driftline.serving.http.messages.items import ItemOut
from driftline.serving.http.messages.lists import DriftOut, ListOut, PolicyOut, RankedOut
from driftline.serving.http.messages.users import HistoryOut, TagOut, UserOut
from driftline.serving.promotions import Promotion
from driftline.state.store import CatalogueItem, ServedList

NEWEST_ITEMS = 10
EVIDENCE_ITEMS = 5
SAME_SCORE = 0.01
"""Scores within this share of each other are the same: the order of sums differs between batches."""


def ranked_list(ranking: Ranking, view: UserView | None, version: int, request_id: str) -> ListOut:
    """Answer of recommend and rank, which is counted; ``view`` is ``None`` for an inline history."""
    made = ranking.recommendation
    drift = drift_of(made.drift, view, ranking.drift_used)
    telemetry.count_list(made.policy.name, drift.status)
    return ListOut(
        request_id=request_id,
        items=[RankedOut(item_id=i.item_id, title=i.title, score=i.score) for i in made.items],
        policy=policy_of(made.policy),
        drift=drift,
        bundle=ranking.bundle,
        degraded="popularity" if made.policy.name == "popular" else None,
        version=version,
        unknown_items=made.unknown_items,
        unavailable_items=list(ranking.unavailable_items),
    )


def policy_of(policy: Policy) -> PolicyOut:
    """The policy, as it is."""
    return PolicyOut(**asdict(policy))


def drift_of(report: DriftVerdict | None, view: UserView | None, stored_used: bool) -> DriftOut:
    """What is known of drift, and whether it covers the whole history with the bundle in force.

    A report that the Ranker worked out for this very request covers it all; a stored one may lag.
    """
    if report is None or (view is not None and not view.item_ids):
        return DriftOut(status="none")
    status = view.drift_status if stored_used and view is not None else "current"
    return DriftOut(status=status, p_drift=report.p_drift, change_point=report.change_point, alarm=report.alarm)


def user_profile(user_id: str, view: UserView, portrait: Portrait, request_id: str) -> UserOut:
    """Answer of ``GET /v1/users/{id}``."""
    return UserOut(
        user_id=user_id,
        interests=[TagOut(tag=tag, weight=weight) for tag, weight in portrait.interests],
        history=HistoryOut(
            num_events=view.num_events,
            num_items=len(set(view.item_ids)),
            first_timestamp=view.times_s[0] if view.times_s else None,
            last_timestamp=view.times_s[-1] if view.times_s else None,
            newest_items=list(reversed(view.item_ids[-NEWEST_ITEMS:])),
        ),
        drift=drift_of(portrait.drift, view, portrait.drift_used),
        policy=policy_of(portrait.policy),
        bundle=portrait.bundle,
        version=view.version,
        request_id=request_id,
    )


def verdict(assessment: Assessment, request_id: str) -> DriftVerdictOut:
    """Answer of ``POST /v1/drift``."""
    report, titles = assessment.report, assessment.titles
    border = len(titles) if report.change_point is None else report.change_point
    peak = int(report.statistic.argmax())
    return DriftVerdictOut(
        p_drift=report.p_drift,
        change_point=report.change_point,
        statistic=[finite_or_none(value) for value in report.statistic],
        p_drift_by_event=[float(value) for value in report.p_drift_by_event],
        verdict="changed" if report.alarm else "unchanged",
        alarm=report.alarm,
        evidence=EvidenceOut(
            before=titles[max(0, border - EVIDENCE_ITEMS) : border],
            after=titles[border : border + EVIDENCE_ITEMS],
            peak_statistic=finite_or_none(report.statistic[peak]),
            peak_index=peak,
        ),
        unknown_items=report.unknown_items,
        bundle=assessment.bundle,
        request_id=request_id,
    )


def bundles(
    replicas: Sequence[Serving],
    promotion: Promotion | None,
    configured: Arms,
    registry: dict[str, str] | None,
    request_id: str,
) -> BundlesOut:
    """Answer of ``GET /v1/bundles``."""
    return BundlesOut(
        replicas=[
            ReplicaOut(
                deployment=replica.deployment,
                arms=[ArmOut(**asdict(arm)) for arm in replica.arms],
                promotion=replica.promotion,
                since=replica.since,
                swap_fault=replica.fault,
            )
            for replica in replicas
        ],
        promotion=promotion_of(promotion) if promotion else None,
        configured=ConfiguredOut(**configured.model_dump()),
        registry=registry,
        request_id=request_id,
    )


def promotion_of(promotion: Promotion) -> PromotionOut:
    """An entry of the log of promotions."""
    return PromotionOut(
        number=promotion.number,
        mode=promotion.mode,
        arms=ConfiguredOut(**promotion.arms.model_dump()),
        promoted_at=promotion.promoted_at,
        key_id=promotion.key_id,
    )


def explanation(served: ServedList, question: ExplainQuestion, found: Sequence[ItemExplanation]) -> ExplanationOut:
    """Answer of ``GET /v1/explanations/{request_id}``."""
    scores = dict(zip(served.items, served.scores or (), strict=False))
    items = [ItemExplanationOut(served_score=scores.get(item.item_id), **asdict(item)) for item in found]
    drifted = [
        item.item_id
        for item in items
        if item.served_score is not None and abs(item.score - item.served_score) > SAME_SCORE * abs(item.served_score)
    ]
    lost = len(question.items) - len(found)
    note = None
    if drifted or lost:
        note = f"history or catalogue have changed since: {len(drifted)} scores differ from those served, {lost} items"
        note += " are not described any more"
    return ExplanationOut(
        request_id=served.request_id,
        user_id=served.user_id,
        served_at=served.served_at,
        bundle=served.bundle,
        version=served.version,
        policy=policy_of(question.policy),
        items=items,
        note=note,
    )


def catalogue_item(item: CatalogueItem, from_bundle: bool) -> ItemOut:
    """Answer of ``GET /v1/items/{id}``."""
    return ItemOut(
        item_id=item.item_id,
        title=item.title,
        year=item.year,
        categories=list(item.categories),
        description=item.description,
        available=item.available,
        source="bundle" if from_bundle else "catalogue",
    )
