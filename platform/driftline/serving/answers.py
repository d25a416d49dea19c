"""From what the deployments say to the bodies of responses."""

from dataclasses import asdict

from driftline.drift.report import DriftReport
from driftline.events.store import CatalogueItem
from driftline.ranking.requests import Policy
from driftline.serving.calls import Assessment, Portrait, Ranking, UserView
from driftline.serving.messages.base import finite_or_none
from driftline.serving.messages.drift import DriftVerdictOut, EvidenceOut
from driftline.serving.messages.items import ItemOut
from driftline.serving.messages.lists import DriftOut, ListOut, PolicyOut, RankedOut
from driftline.serving.messages.users import HistoryOut, TagOut, UserOut

NEWEST_ITEMS = 10
EVIDENCE_ITEMS = 5


def ranked_list(ranking: Ranking, view: UserView | None, version: int, request_id: str) -> ListOut:
    """Answer of recommend and rank; ``view`` is ``None`` for an inline history."""
    made = ranking.recommendation
    return ListOut(
        request_id=request_id,
        items=[RankedOut(item_id=i.item_id, title=i.title, score=i.score) for i in made.items],
        policy=policy_of(made.policy),
        drift=drift_of(made.drift, view, ranking.drift_used),
        bundle=ranking.bundle,
        version=version,
        unknown_items=made.unknown_items,
    )


def policy_of(policy: Policy) -> PolicyOut:
    """The policy, as it is."""
    return PolicyOut(**asdict(policy))


def drift_of(report: DriftReport | None, view: UserView | None, stored_used: bool) -> DriftOut:
    """What is known of drift, and whether it covers the whole history with the bundle in force.

    A report that the Ranker worked out for this very request covers it all; a stored one may lag.
    """
    if report is None or (view is not None and not view.history):
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
            first_timestamp=view.history[0].timestamp if view.history else None,
            last_timestamp=view.history[-1].timestamp if view.history else None,
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


def catalogue_item(item: CatalogueItem, from_bundle: bool) -> ItemOut:
    """Answer of ``GET /v1/items/{id}``."""
    return ItemOut(
        item_id=item.item_id,
        title=item.title,
        year=item.year,
        categories=list(item.categories),
        description=item.description,
        source="bundle" if from_bundle else "catalogue",
    )
