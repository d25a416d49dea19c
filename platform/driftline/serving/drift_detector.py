"""DriftDetector: drift reports and verdicts by the champion, in batches. It keeps nothing between requests."""

import asyncio
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from ray import serve
from ray.serve.handle import DeploymentHandle

from driftline.registry.model import Model
from driftline.serving import telemetry
from driftline.serving.batching import batched
from driftline.serving.calls import Assessment, Followed, Serving
from driftline.serving.deadlines import takes_deadlines
from driftline.serving.loaded_arms import LoadedArms, sample_history
from driftline.serving.promotions import Promotion

LESS_URGENT: Final = 4
"""Added to the niceness of the process, which Ray makes 15; the least urgent is 19."""


@takes_deadlines
class DriftDetector:
    """Autoscaling deployment. Its process gives way to the others: lists and events are waited for, drift seldom is.

    Parameters
    ----------
    torch_threads
        See :class:`~driftline.serving.loaded_arms.LoadedArms`.
    """

    def __init__(self, torch_threads: int) -> None:
        os.nice(LESS_URGENT)

        async def find_promotion(champion: str) -> Promotion | None:
            found: Promotion | None = await user_state().promotion.remote(champion)
            return found

        @cache
        def user_state() -> DeploymentHandle[Any]:
            """By its name: UserState holds a handle of this deployment already, and bindings cannot go round."""
            return serve.get_deployment_handle("UserState")

        self._loaded = LoadedArms(_warm_up, torch_threads, find_promotion, with_challenger=False)

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Take in what is configured (see :class:`~driftline.serving.arms.Arms`); swaps without a restart."""
        await self._loaded.configure(config)

    def check_health(self) -> None:
        """Fail if no bundle is loaded, and show which: a gauge that is not set again and again disappears."""
        telemetry.hand_over()
        telemetry.show_bundles(self._loaded.in_force.bundles)

    async def bundle(self) -> str:
        """Id of the bundle in force."""
        return self._loaded.in_force.champion.version

    async def swap_fault(self) -> str | None:
        """Why the bundle in force is not the one that was asked for; ``None`` if it is."""
        return self._loaded.fault

    async def serving(self) -> Serving:
        """What this replica answers with."""
        return self._loaded.serving("DriftDetector")

    async def assess(self, history: list[str]) -> Assessment | None:
        """Drift report of one history of item ids, oldest first; ``None`` if the bundle has no drift part."""
        return await self._assess(history)

    async def follow(self, history: list[str], bundle: str | None, state: bytes | None) -> Followed | None:
        """Verdict on one history, from the state that ``bundle`` left; ``None`` if there is no drift part now.

        Only what came since is read, unless another bundle is in force or the state is not of this history.
        """
        return await self._follow((history, bundle, state))

    @batched
    async def _follow(self, users: list[tuple[list[str], str | None, bytes | None]]) -> list[Followed | None]:
        model = self._loaded.in_force.champion
        if model.detector is None:
            return [None] * len(users)
        histories = [history for history, _, _ in users]
        states = [state if bundle == model.version else None for _, bundle, state in users]
        followed = await asyncio.to_thread(model.follow_drift, histories, states)
        return [Followed(verdict, model.version, state) for verdict, state in followed]

    @batched
    async def _assess(self, histories: list[list[str]]) -> list[Assessment | None]:
        model = self._loaded.in_force.champion
        if model.detector is None:
            return [None] * len(histories)
        reports = await asyncio.to_thread(model.drift_batch, histories)
        return [
            Assessment(report, model.version, [model.titles.get(item_id, item_id) for item_id in history])
            for report, history in zip(reports, histories, strict=True)
        ]


def _warm_up(model: Model) -> object:
    return model.drift_batch([sample_history(model)]) if model.detector else None
