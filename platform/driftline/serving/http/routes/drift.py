"""``/v1/drift``."""

from fastapi import FastAPI, Request

from driftline.serving.calls import Assessment
from driftline.serving.http import answers
from driftline.serving.http.backends import Backends
from driftline.serving.http.messages.drift import DriftIn, DriftVerdictOut
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import Reader


def add(app: FastAPI, backends: Backends) -> None:
    @app.post("/v1/drift")
    async def drift(request: Request, body: DriftIn, key: Reader) -> DriftVerdictOut:
        """Whether a history changed, where, and how sure that is; nothing is stored."""
        assessment: Assessment | None = await backends.ask(backends.drift_detector, "assess", body.history)
        if assessment is None:
            raise Problem(501, "the bundle in force was trained with drift.enabled=false: serve one with a drift part")
        return answers.verdict(assessment, request.state.request_id)
