"""``/v1/bundles``: what is served, and putting other bundles in force. They are the same for all tenants."""

import asyncio

from fastapi import FastAPI, Request

from driftline.errors import BundleError
from driftline.serving.arms import Arms
from driftline.serving.bundle_source import BundleSource
from driftline.serving.calls import Serving
from driftline.serving.http import answers
from driftline.serving.http.backends import Backends
from driftline.serving.http.messages.bundles import BundlesOut, PromotedOut, PromoteIn
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import Admin
from driftline.serving.promotions import Change, Promotion


def add(app: FastAPI, backends: Backends, source: BundleSource) -> None:
    @app.get("/v1/bundles")
    async def get_bundles(request: Request, key: Admin, registry: bool = False) -> BundlesOut:
        """What every replica answers with, and what asked for it.

        With ``registry=true`` also what the registry offers, which takes seconds the first time.
        """
        configured: Arms = await backends.ask(backends.ranker, "configured")
        promotion: Promotion | None = await backends.ask(backends.user_state, "promotion", configured.champion)
        replicas: list[Serving] = [
            *await backends.ask_all(backends.ranker, "serving"),
            *await backends.ask_all(backends.drift_detector, "serving"),
        ]
        offered = await asyncio.to_thread(source.registered) if registry else None
        return answers.bundles(replicas, promotion, configured, offered, request.state.request_id)

    @app.post("/v1/bundles:promote")
    async def promote_bundle(request: Request, body: PromoteIn, key: Admin) -> PromotedOut:
        """Put a bundle in force, everywhere and for good: it outlives replicas and restarts.

        Every replica loads it, warms it up and then swaps; no request fails. If it cannot be loaded, what was in force
        before stays, and ``GET /v1/bundles`` says why.
        """
        path = "" if body.bundle is None else await asyncio.to_thread(_find, source, body.bundle)
        weight = (1.0 if body.mode == "shadow" else 0.0) if body.weight is None else body.weight
        configured: Arms = await backends.ask(backends.ranker, "configured")
        change = Change(body.mode, path, weight, key.tenant, key.key_id)
        promotion: Promotion = await backends.ask(backends.user_state, "promote", configured, change)
        return PromotedOut(promotion=answers.promotion_of(promotion), request_id=request.state.request_id)


def _find(source: BundleSource, named: str) -> str:
    try:
        folder, _ = source.find(named)
    except BundleError as error:
        raise Problem(422, str(error), errors=[{"detail": str(error), "pointer": "/bundle"}]) from error
    return str(folder)
