"""``/livez`` and ``/readyz``."""

from fastapi import FastAPI

from driftline.serving.http.backends import Backends
from driftline.serving.http.messages.operations import ReadyOut


def add(app: FastAPI, backends: Backends) -> None:
    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """The HTTP process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> ReadyOut:
        """State reachable, bundle loaded and warmed up."""
        await backends.ask(backends.user_state, "ping")
        bundle = await backends.ask(backends.ranker, "bundle")
        await backends.ask(backends.drift_detector, "bundle")  # another one while a bundle is being swapped
        faults = [
            await backends.ask(backends.ranker, "swap_fault"),
            await backends.ask(backends.drift_detector, "swap_fault"),
        ]
        return ReadyOut(bundle=bundle, swap_fault=faults[0] or faults[1])
