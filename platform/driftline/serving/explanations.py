"""Why each item is in a list that was served: worked out when somebody asks, from the history as it was then.

One explanation at a time in each replica, in a thread of its own: it takes a second, and lists go before.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from driftline.drift.report import DriftVerdict
from driftline.ranking.requests import Policy, RankRequest
from driftline.registry.explanation import ItemExplanation, explain
from driftline.registry.model import Model
from driftline.serving.calls import ExplainQuestion, Ranking, UserView
from driftline.serving.catalogue import TenantCatalogue
from driftline.state.store import ServedList


class Explanations:
    """The explanations of one replica."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "explanations")

    async def explain(
        self, question: ExplainQuestion, model: Model, catalogue: TenantCatalogue
    ) -> list[ItemExplanation]:
        """Explain the items of a list, as far as they are described still."""
        loop = asyncio.get_running_loop()
        asked = request_of(question, catalogue.new_texts(model.catalog.index))
        return await loop.run_in_executor(self._thread, explain, model, asked, question.items, question.policy)


def request_of(question: ExplainQuestion, new_items: dict[str, str]) -> RankRequest:
    """The model's request as it was, as far as scores depend on it."""
    drift = None if question.p_drift is None else DriftVerdict(question.p_drift, question.change_point, alarm=False)
    return RankRequest(
        question.history,
        keep_seen=question.keep_seen,
        new_items=new_items or None,
        drift=drift,
        times_s=question.times_s,
        types=question.types,
        now_s=question.now_s,
    )


def reading_of(ranking: Ranking, keep_seen: bool) -> dict[str, object]:
    """What has to be kept of an answer (JSON values) so that, with the history of its version, it can be explained."""
    made = ranking.recommendation
    return {
        "policy": {"name": made.policy.name, "reason": made.policy.reason, "weight_recent": made.policy.weight_recent},
        "p_drift": made.drift.p_drift if made.drift else None,
        "change_point": made.drift.change_point if made.drift else None,
        "keep_seen": keep_seen,
    }


def question_about(served: ServedList, view: UserView, most_items: int) -> ExplainQuestion:
    """What the Ranker is asked about a list; ``view`` is the user as of the list's version."""
    reading = served.reading
    assert reading is not None
    return ExplainQuestion(
        tenant=served.tenant,
        catalogue_version=view.catalogue_version,
        bundle=served.bundle,
        history=view.item_ids,
        items=served.items[:most_items],
        policy=Policy(**reading["policy"]),
        p_drift=reading["p_drift"],
        change_point=reading["change_point"],
        keep_seen=reading["keep_seen"],
        times_s=view.times_s,
        types=view.types,
        now_s=served.served_at,
    )
