"""How the deployments are put together, and every setting of the service."""

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from driftline.config import default_storage
from driftline.errors import ConfigError
from driftline.registry.bundle import open_bundle
from driftline.serving.drift_detector import DriftDetector
from driftline.serving.ranker import Ranker
from driftline.serving.router import HttpSettings, Router
from driftline.serving.user_state import UserState

LOOK_BACK_SECONDS = 30.0
"""Load is averaged over this long; a shorter upscale delay would make replicas come and go."""


def default_database() -> str:
    """``$DRIFTLINE_DATABASE``, or an SQLite file under the storage root."""
    return os.environ.get("DRIFTLINE_DATABASE") or f"sqlite:///{default_storage() / 'state' / 'driftline.db'}"


class AppArgs(BaseModel):
    """Arguments of the application; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Path | None = None
    """Directory of the bundle to serve; by default ``$DRIFTLINE_BUNDLE``."""
    database: str = Field(default_factory=default_database)
    """SQLAlchemy URL: ``sqlite:////absolute/path.db`` by default."""
    router_replicas: int = Field(1, ge=1)
    max_model_replicas: int = Field(2, ge=1)
    """Upper bound of each of Ranker and DriftDetector; the lower is 1, for loading a model takes long."""
    num_cpus: float = Field(0.2, gt=0)
    """Logical CPUs that each replica claims. Fractions, so that the whole application fits a machine with two."""
    torch_threads: int = Field(1, ge=1)
    max_ongoing_requests: int = Field(64, ge=1)
    """Requests that a replica works on at once."""
    max_queued_requests: int = Field(256, ge=0)
    """Requests that may wait for a deployment; one more gets 503 with Retry-After."""
    timeout_seconds: float = Field(20.0, gt=0)
    """Limit of one call between deployments; beyond it a request gets 504."""
    history_events: int = Field(1000, ge=1)
    """How many of a user's newest events are read."""
    sweep_seconds: float = Field(60.0, gt=0)
    """Pause between two searches for drift states that lag."""
    max_body_bytes: int = Field(4 * 1024**2, ge=1024)
    max_event_rows: int = Field(10_000, ge=1)
    remember_key_seconds: float = Field(5.0, ge=0)
    """A revoked key may go on working for this long."""
    open_documents: bool = True
    """Whether /openapi.json and /docs exist."""


def build_app(args: AppArgs) -> Application:
    """Check the bundle and bind the deployments.

    The bundle is in ``user_config`` only: a configuration that overrides it for Ranker and DriftDetector swaps it
    without restarting a replica.

    Raises
    ------
    ConfigError
        If no bundle is named.
    BundleError
        If it is missing or corrupt: better now than in a replica.
    """
    named = args.bundle or os.environ.get("DRIFTLINE_BUNDLE")
    if not named:
        raise ConfigError(["no bundle is named: give bundle=DIR, or set DRIFTLINE_BUNDLE=DIR"], "serve.app:build")
    folder, _ = open_bundle(named)
    scaled = _options(args) | {
        "user_config": {"bundle": str(folder.resolve())},
        "autoscaling_config": AutoscalingConfig(
            min_replicas=1,
            max_replicas=args.max_model_replicas,
            target_ongoing_requests=max(1, args.max_ongoing_requests // 4),
            look_back_period_s=LOOK_BACK_SECONDS,
            upscale_delay_s=LOOK_BACK_SECONDS,
            downscale_delay_s=120.0,
        ),
    }
    drift_detector = serve.deployment(**scaled)(DriftDetector).bind(args.torch_threads)
    user_state = serve.deployment(**_options(args), num_replicas=1)(UserState).bind(
        drift_detector, args.database, args.history_events, args.sweep_seconds
    )
    ranker = serve.deployment(**scaled)(Ranker).bind(user_state, args.torch_threads)
    settings = HttpSettings(args.max_body_bytes, args.max_event_rows, args.remember_key_seconds, args.open_documents)
    capacity = _router_capacity(args)
    router = _options(args) | {
        "num_replicas": args.router_replicas,
        "max_ongoing_requests": capacity,
        "max_queued_requests": capacity,
    }
    return serve.deployment(**router)(Router).bind(user_state, ranker, drift_detector, args.timeout_seconds, settings)


def _router_capacity(args: AppArgs) -> int:
    """More than the deployments behind can hold, so that overload shows there, where it gets a proper answer."""
    return 64 + 2 * (args.max_ongoing_requests * args.max_model_replicas + args.max_queued_requests)


def _options(args: AppArgs) -> dict[str, Any]:
    return {
        "ray_actor_options": {"num_cpus": args.num_cpus},
        "max_ongoing_requests": args.max_ongoing_requests,
        "max_queued_requests": args.max_queued_requests,
        "health_check_period_s": 5.0,
        "health_check_timeout_s": 30.0,
        # Ray's own access log holds paths, and paths hold user ids: the envelope writes one that does not
        "logging_config": LoggingConfig(encoding="JSON", enable_access_log=False),
    }
