"""The bundle that a replica has in memory: loaded, warmed up, and only then put in the place of the one before."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypedDict

import torch

from driftline.registry.model import Model, load

MAX_BATCH_SIZE: Final = 16
"""Requests that a replica answers in one pass through the model."""
BATCH_WAIT_SECONDS: Final = 0.002
"""How long the first request of a batch waits for others."""

logger = logging.getLogger("ray.serve")


class BundleConfig(TypedDict):
    """``user_config`` of a deployment that holds a model; changing it swaps the bundle without a restart."""

    bundle: str


class LoadedModel:
    """Holder of one model.

    Parameters
    ----------
    warm_up
        Runs real-shaped requests, so that the first caller does not wait for what is lazy.
    torch_threads
        Threads of one arithmetic operation; several replicas share the cores of a machine.
    """

    def __init__(self, warm_up: Callable[[Model], object], torch_threads: int) -> None:
        torch.set_num_threads(torch_threads)
        self._warm_up = warm_up
        self._model: Model | None = None
        self.fault: str | None = None
        """Why the bundle in force is not the one that was asked for."""

    async def load(self, bundle: str) -> None:
        """Load a bundle off the event loop; until it is warm the one before goes on answering.

        A bundle that cannot be loaded does not take the service down: the one before stays, and :attr:`fault` says so.

        Raises
        ------
        BundleError
            If it is missing or corrupt and there is none before.
        """

        def prepare() -> Model:
            model = load(bundle)
            self._warm_up(model)
            return model

        try:
            self._model = await asyncio.to_thread(prepare)
        except Exception as error:
            if self._model is None:
                raise
            self.fault = f"{self._model.version} stays in force: {error}"
            logger.exception("a bundle could not be loaded; the one before stays in force")
            return
        self.fault = None
        logger.info("bundle in force", extra={"bundle": self._model.version})

    @property
    def model(self) -> Model:
        """The model in force.

        Raises
        ------
        RuntimeError
            If there is none yet.
        """
        if self._model is None:
            raise RuntimeError("no bundle is loaded: deploy with user_config={'bundle': PATH}")
        return self._model


def sample_history(model: Model, num_events: int = 50) -> list[str]:
    """A history of the shape that real ones have, for warming up."""
    return model.item_ids[:num_events]
