"""DriftDetector: drift reports of histories, in batches. It keeps nothing between requests."""

import asyncio

from ray import serve

from driftline.registry.model import Model
from driftline.serving.calls import Assessment
from driftline.serving.loaded_model import BATCH_WAIT_SECONDS, MAX_BATCH_SIZE, BundleConfig, LoadedModel, sample_history


class DriftDetector:
    """Autoscaling deployment.

    Parameters
    ----------
    torch_threads
        See :class:`~driftline.serving.loaded_model.LoadedModel`.
    """

    def __init__(self, torch_threads: int) -> None:
        self._loaded = LoadedModel(_warm_up, torch_threads)

    async def reconfigure(self, config: BundleConfig) -> None:
        """Swap the bundle."""
        await self._loaded.load(config["bundle"])

    def check_health(self) -> None:
        """Fail if no bundle is loaded."""
        assert self._loaded.model

    async def bundle(self) -> str:
        """Id of the bundle in force."""
        return self._loaded.model.version

    async def swap_fault(self) -> str | None:
        """Why the bundle in force is not the one that was asked for; ``None`` if it is."""
        return self._loaded.fault

    async def assess(self, history: list[str]) -> Assessment | None:
        """Drift report of one history of item ids, oldest first; ``None`` if the bundle has no drift part."""
        if self._loaded.model.detector is None:
            return None
        return await self._assess(history)

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def _assess(self, histories: list[list[str]]) -> list[Assessment]:
        model = self._loaded.model
        reports = await asyncio.to_thread(model.drift_batch, histories)
        return [
            Assessment(report, model.version, [model.titles.get(item_id, item_id) for item_id in history])
            for report, history in zip(reports, histories, strict=True)
        ]


def _warm_up(model: Model) -> object:
    return model.drift_batch([sample_history(model)]) if model.detector else None
