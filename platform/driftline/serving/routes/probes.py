"""``/livez`` and ``/readyz``."""

from fastapi import FastAPI

from driftline.serving.backends import Backends
from driftline.serving.messages.operations import ReadyOut
from driftline.serving.problems import overloaded


def add(app: FastAPI, backends: Backends) -> None:
    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """The HTTP process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> ReadyOut:
        """State reachable, bundle loaded and warmed up."""
        await backends.ask(backends.user_state, "ping")
        bundles = {
            await backends.ask(backends.ranker, "bundle"),
            await backends.ask(backends.drift_detector, "bundle"),
        }
        if len(bundles) > 1:
            raise overloaded(f"a bundle is being swapped: {' and '.join(sorted(bundles))} are both in force")
        fault = await backends.ask(backends.ranker, "swap_fault")
        return ReadyOut(bundle=bundles.pop(), swap_fault=fault)
