"""The bundles that a replica has in memory: loaded, warmed up, and only then put in the place of those before.

A replica follows the store: it asks every ``FOLLOW_SECONDS`` which promotion is in force over what is configured. So a
promotion reaches replicas that start later, after a crash or by autoscaling, and a service that starts anew.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch

from driftline.models.text_precision import TextPrecision
from driftline.registry.model import Model, load
from driftline.serving.arms import ArmName, Arms, share_of
from driftline.serving.calls import ArmServed, Serving
from driftline.serving.heap import freeze_heap
from driftline.serving.promotions import Promotion

FOLLOW_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 60.0
"""Pause after which a bundle that could not be loaded is tried again."""

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class InForce:
    """What answers at this moment.

    Parameters
    ----------
    arms
        As they were asked for.
    promotion
        Number of the promotion that asked for them; ``None``: they are configured.
    since
        Seconds since the epoch.
    """

    arms: Arms
    champion: Model
    challenger: Model | None
    promotion: int | None
    since: float

    @property
    def bundles(self) -> dict[str, str]:
        """Ids of the bundles by arm."""
        held = {"champion": self.champion, "challenger": self.challenger}
        return {arm: model.version for arm, model in held.items() if model is not None}

    def arm_of(self, tenant: str, user_id: str | None) -> tuple[ArmName, Model]:
        """Who answers a user; without a user it is the champion."""
        if self.challenger is not None and not self.arms.shadow and self._is_for_challenger(tenant, user_id):
            return "challenger", self.challenger
        return "champion", self.champion

    def shadow_of(self, tenant: str, user_id: str) -> Model | None:
        """Who makes a list beside the one served, for this user."""
        return self.challenger if self.arms.shadow and self._is_for_challenger(tenant, user_id) else None

    def model_of(self, bundle: str) -> Model | None:
        """The model of a bundle, if it is one of those in force."""
        return next((m for m in (self.champion, self.challenger) if m is not None and m.version == bundle), None)

    def _is_for_challenger(self, tenant: str, user_id: str | None) -> bool:
        if self.challenger is None or user_id is None:
            return False
        return share_of(self.challenger.version, tenant, user_id) < self.arms.challenger_weight


class LoadedArms:
    """Holder of the models of one replica.

    Parameters
    ----------
    warm_up
        Runs real-shaped requests, so that the first caller does not wait for what is lazy.
    torch_threads
        Threads of one arithmetic operation; several replicas share the cores of a machine.
    find_promotion
        Asks the store for the promotion over a configured champion.
    with_challenger
        Whether this replica needs the challenger at all.
    text_precision
        See :func:`~driftline.registry.model.load`.
    """

    def __init__(
        self,
        warm_up: Callable[[Model], object],
        torch_threads: int,
        find_promotion: Callable[[str], Awaitable[Promotion | None]],
        with_challenger: bool = True,
        text_precision: TextPrecision = "fp32",
    ) -> None:
        torch.set_num_threads(torch_threads)
        self._warm_up = warm_up
        self._find_promotion = find_promotion
        self._with_challenger = with_challenger
        self._text_precision = text_precision
        self._configured: Arms | None = None
        self._in_force: InForce | None = None
        self._failed: tuple[int | None, Arms, float] | None = None
        self._lock = asyncio.Lock()
        self._following: asyncio.Future[None] | None = None
        self.fault: str | None = None
        """Why the bundles in force are not those that were asked for."""

    @property
    def in_force(self) -> InForce:
        """What answers now.

        Raises
        ------
        RuntimeError
            If nothing is loaded yet.
        """
        if self._in_force is None:
            raise RuntimeError("no bundle is loaded: deploy with user_config={'champion': PATH}")
        return self._in_force

    @property
    def configured(self) -> Arms:
        """What ``user_config`` says."""
        assert self._configured is not None
        return self._configured

    async def configure(self, config: Mapping[str, Any]) -> None:
        """Take in ``user_config``, and begin to follow the store.

        Raises
        ------
        ValidationError
            If it is not an :class:`Arms`.
        BundleError
            If a bundle is missing or corrupt and there is none before.
        """
        self._configured = Arms.model_validate(config)
        if self._in_force is None:
            await self.catch_up()
        else:
            await self._try_to_catch_up()
        if self._following is None:
            self._following = asyncio.ensure_future(self._follow())

    async def catch_up(self) -> None:
        """Put in force what the store and the configuration ask for.

        Bundles are loaded off the event loop; until they are warm those before go on answering. If one cannot be
        loaded, those before stay and :attr:`fault` says why; a replica that has just started takes what is configured.
        """
        async with self._lock:
            promotion = await self._find_promotion(self.configured.champion)
            number, wanted = (promotion.number, promotion.arms) if promotion else (None, self.configured)
            now = self._in_force
            if now is not None and (now.promotion, now.arms) == (number, wanted):
                self.fault = self._failed = None
                return
            if self._failed and self._failed[:2] == (number, wanted) and time.monotonic() < self._failed[2]:
                return
            try:
                self._in_force = await asyncio.to_thread(self._prepare, wanted, number)
            except Exception as error:
                if now is None and promotion is None:
                    raise
                if now is None:
                    self._in_force = now = await asyncio.to_thread(self._prepare, self.configured, None)
                assert now is not None
                self.fault = f"{now.champion.version} stays in force: {error}"
                self._failed = number, wanted, time.monotonic() + RETRY_SECONDS
                logger.exception("a bundle could not be loaded; those before stay in force")
                return
            self.fault = self._failed = None
            logger.info("bundles in force", extra={"bundles": self._in_force.bundles, "promotion": number})

    def serving(self, deployment: Literal["Ranker", "DriftDetector"]) -> Serving:
        """What this replica answers with, for who asks what is served."""
        now = self.in_force
        arms, share = now.arms, 0.0 if now.challenger is None else now.arms.challenger_weight
        served = [ArmServed("champion", now.champion.version, arms.champion, 1.0 if arms.shadow else 1 - share)]
        if now.challenger is not None:
            assert arms.challenger is not None
            served.append(ArmServed("challenger", now.challenger.version, arms.challenger, share, arms.shadow))
        return Serving(deployment, served, now.promotion, now.since, self.fault)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            await self._try_to_catch_up()

    async def _try_to_catch_up(self) -> None:
        try:
            await self.catch_up()
        except Exception as error:  # UserState is restarting, or overloaded: what is in force goes on answering
            logger.warning("the promotion in force could not be asked for: %s", type(error).__name__)

    def _prepare(self, wanted: Arms, promotion: int | None) -> InForce:
        champion = self._model(wanted.champion)
        challenger = self._model(wanted.challenger) if wanted.challenger and self._with_challenger else None
        freeze_heap()
        return InForce(wanted, champion, challenger, promotion, time.time())

    def _model(self, path: str) -> Model:
        """A loaded and warm model: one that is in force already, whichever its arm, is taken over as it is."""
        now = self._in_force
        if now is not None:
            for known, model in ((now.arms.champion, now.champion), (now.arms.challenger, now.challenger)):
                if known == path and model is not None:
                    return model
        model = load(path, self._text_precision)
        self._warm_up(model)
        return model


def sample_history(model: Model, num_events: int = 50) -> list[str]:
    """A history of the shape that real ones have, for warming up."""
    return model.item_ids[:num_events]
