"""MLflow: one run per training job, written by the driver alone, and the registry's aliases."""

import math
import os
from pathlib import Path
from typing import Any

from driftline.config import Config
from driftline.registry.bundle import Manifest
from driftline.training.progress import Update


def tracking_uri(config: Config) -> str:
    """The configured URI, or an SQLite file under ``storage``."""
    if config.tracking.uri:
        return config.tracking.uri
    config.storage.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{config.storage / 'mlflow.db'}"


class Tracker:
    """An MLflow run that hears every progress update."""

    def __init__(self, config: Config, run_name: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        import mlflow

        self._config = config
        self._client: Any = mlflow.MlflowClient(tracking_uri(config))
        self._experiment = self._experiment_id(config.tracking.experiment)
        run = self._client.create_run(self._experiment, run_name=run_name)
        self.run_id: str = run.info.run_id
        settings = _flat(config.model_dump(mode="json")).items()
        self._client.log_batch(self.run_id, params=[mlflow.entities.Param(k, str(v)[:500]) for k, v in settings])

    def hear(self, update: Update) -> None:
        """Log the figures of an update."""
        for name, value in update.metrics().items():
            self._client.log_metric(self.run_id, name, value, step=update.step)

    def finish(self, metrics: dict[str, float]) -> None:
        """Log the figures of the finished bundle (those of the stages are there) and close the run."""
        for name, value in metrics.items():
            if not name.startswith("validation/"):
                continue
            self._client.log_metric(self.run_id, name.replace("@", "_at_"), value)
        self._client.set_terminated(self.run_id)

    def fail(self) -> None:
        """Close the run as failed."""
        self._client.set_terminated(self.run_id, status="FAILED")

    def register(self, bundle: Path, manifest: Manifest) -> tuple[str, str]:
        """Register a bundle; it becomes champion if it beats the reigning one on comparable validation data.

        Two bundles compare when protocol and data fingerprint agree. A bundle that does not compare, or loses, becomes
        challenger.

        Returns
        -------
        alias, reason
        """
        from mlflow.exceptions import MlflowException

        name = self._config.tracking.model_name
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        figure = manifest.metrics["validation/NDCG@10"]
        tags = {
            "protocol": manifest.protocol,
            "data": manifest.data_fingerprint,
            "ndcg": repr(figure),
            "path": str(bundle),
        }
        version = self._client.create_model_version(name, source=str(bundle), run_id=self.run_id, tags=tags)
        alias, reason = self._verdict(name, tags, figure)
        self._client.set_registered_model_alias(name, alias, version.version)
        return alias, reason

    def _verdict(self, name: str, tags: dict[str, str], figure: float) -> tuple[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            reigning = self._client.get_model_version_by_alias(name, "champion").tags
        except MlflowException as error:
            # an alias that was never set is an invalid parameter to MLflow's stores, and a missing resource to some
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                raise
            return "champion", "no champion so far"
        if not tags.keys() <= reigning.keys():
            return "challenger", "the champion was not registered by Driftline: compare them by evaluation"
        if not Path(reigning["path"]).is_dir():
            return "champion", f"the champion's bundle {reigning['path']} is gone"
        if (reigning["protocol"], reigning["data"]) != (tags["protocol"], tags["data"]):
            return (
                "challenger",
                "the champion was validated on other data or another protocol: compare them by evaluation",
            )
        best = float(reigning["ndcg"])
        if figure > best or math.isnan(best):
            return "champion", f"validation NDCG@10 {figure:.4f} beats the champion's {best:.4f}"
        return "challenger", f"validation NDCG@10 {figure:.4f} does not beat the champion's {best:.4f}"

    def _experiment_id(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self._config.storage / "mlflow-artifacts").as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
