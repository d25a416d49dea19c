"""A service that does nothing, in the same topology as Driftline's: what the platform itself costs.

Router, UserState and Ranker are three deployments that pass bytes of the sizes that Driftline passes for
``/v1/recommend``: a view from UserState, a question to Ranker, a list back, and records of lists behind the answers.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from driftline.serving.app import AppArgs, deployment_options
from driftline.serving.commands.serve import become_serve
from driftline.serving.http.served_records import GATHER_SECONDS


class Sizes(BaseModel):
    """Bytes of each message of one request."""

    view: int = 6000
    question: int = 4000
    ranking: int = 3000
    answer: int = 2000
    record: int = 1000


http = FastAPI()


class State:
    """Stands for UserState."""

    def __init__(self, sizes: Sizes) -> None:
        self._view = b"v" * sizes.view

    async def read(self, user: str) -> bytes:
        """Bytes as many as a view has."""
        return self._view

    async def record(self, rows: list[bytes]) -> None:
        """Take records."""


class Model:
    """Stands for Ranker."""

    def __init__(self, sizes: Sizes) -> None:
        self._ranking = b"r" * sizes.ranking

    async def rank(self, question: bytes) -> bytes:
        """Bytes as many as a ranking has."""
        return self._ranking


@serve.ingress(http)
class Front:
    """Stands for the Router."""

    def __init__(self, state: DeploymentHandle[Any], model: DeploymentHandle[Any], sizes: Sizes) -> None:
        self._state, self._model = state, model
        self._question, self._answer, self._served = b"q" * sizes.question, b"a" * sizes.answer, b"s" * sizes.record
        self._waiting: list[bytes] = []
        self._telling: asyncio.Future[None] | None = None

    @http.get("/readyz")
    async def ready(self) -> dict[str, str]:
        """All three answer."""
        await self._state.read.remote("")
        await self._model.rank.remote(b"")
        return {"status": "ready"}

    @http.post("/v1/recommend")
    async def recommend(self, request: Request) -> Response:
        """One request's way through the topology."""
        await request.body()
        await self._state.read.remote("user")
        await self._model.rank.remote(self._question)
        self._waiting.append(self._served)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._tell())
        return Response(self._answer, media_type="application/json")

    async def _tell(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        rows, self._waiting = self._waiting, []
        await self._state.record.remote(rows)


def build(sizes: Sizes) -> Application:
    """The application, each deployment with the options that Driftline's have."""
    options = deployment_options(AppArgs(bundle=Path("unused")))
    state = serve.deployment(**options)(State).bind(sizes)
    model = serve.deployment(**options)(Model).bind(sizes)
    return serve.deployment(**options)(Front).bind(state, model, sizes)


if __name__ == "__main__":
    become_serve("benchmarks.serving_noop:build", json.loads(sys.argv[2]), "127.0.0.1", int(sys.argv[1]), "haproxy")
