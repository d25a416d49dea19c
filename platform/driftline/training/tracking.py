"""The registry: MLflow on a file or a server, its versions of bundles, and the aliases champion and challenger."""

import math
import os
from pathlib import Path
from typing import Any

from driftline.config import Config
from driftline.registry.bundle import Manifest


def tracking_uri(config: Config) -> str:
    """The configured URI, or an SQLite file under ``storage``."""
    if config.tracking.uri:
        return config.tracking.uri
    config.storage.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{config.storage / 'mlflow.db'}"


def mlflow_client(config: Config) -> Any:
    """A client of :func:`tracking_uri` that tells nobody else that it runs."""
    return _client(tracking_uri(config))


def _client(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    return mlflow.MlflowClient(uri)


def aliased_bundles(uri: str, model_name: str) -> dict[str, str]:
    """Directory of the bundle behind each alias of a registered model; empty if nothing was ever registered."""
    from mlflow.exceptions import MlflowException

    client = _client(uri)
    try:
        aliases: dict[str, str] = client.get_registered_model(model_name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: str(client.get_model_version(model_name, version).source) for alias, version in aliases.items()}


class Registry:
    """Versions of ``tracking.model_name``, one a bundle."""

    def __init__(self, config: Config) -> None:
        self._name = config.tracking.model_name
        self._client = mlflow_client(config)

    def register(
        self, bundle: Path, manifest: Manifest, run_id: str | None = None, as_challenger: bool = False
    ) -> tuple[str, str]:
        """Register a bundle; it becomes champion if it beats the reigning one on comparable validation data.

        Two bundles compare when protocol and data fingerprint agree. A bundle that does not compare, or loses, becomes
        challenger.

        Parameters
        ----------
        run_id
            The MLflow run that it came from.
        as_challenger
            Make it challenger whatever its figures: the best of many tries on one validation set flatters itself.

        Returns
        -------
        alias, reason
        """
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self._name)
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
        version = self._client.create_model_version(self._name, source=str(bundle), run_id=run_id, tags=tags)
        alias, reason = self._verdict(tags, figure)
        if as_challenger:
            alias, reason = "challenger", f"the best of a sweep never reigns unexamined; by figures: {reason}"
        self._client.set_registered_model_alias(self._name, alias, version.version)
        return alias, reason

    def _verdict(self, tags: dict[str, str], figure: float) -> tuple[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            reigning = self._client.get_model_version_by_alias(self._name, "champion").tags
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
