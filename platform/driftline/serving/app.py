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
from driftline.models.text_precision import TextPrecision
from driftline.registry.bundle import open_bundle
from driftline.serving.bundle_source import BundleSource, default_registry
from driftline.serving.calls import RateLimit
from driftline.serving.drift_detector import DriftDetector
from driftline.serving.http.router import HttpSettings, Router
from driftline.serving.notices import PopulationBand
from driftline.serving.ranker import Ranker
from driftline.serving.user_state import UserState


def default_database() -> str:
    """``$DRIFTLINE_DATABASE``, or an SQLite file under the storage root."""
    return os.environ.get("DRIFTLINE_DATABASE") or f"sqlite:///{default_storage() / 'state' / 'driftline.db'}"


class AppArgs(BaseModel):
    """Arguments of the application; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    bundle: Path | None = None
    """Directory of the bundle to serve; by default ``$DRIFTLINE_BUNDLE``."""
    bundle_root: Path = Field(default_factory=lambda: default_storage() / "bundles")
    """The directory that bundles can be promoted from while the service runs."""
    registry: str | None = None
    """MLflow tracking URI whose registered bundles ``GET /v1/bundles`` shows; null = ``mlflow.db`` under the storage
    root, where there is one."""
    registry_model: str = "driftline"
    """Name that training registers bundles under (``tracking.model_name``)."""
    database: str = Field(default_factory=default_database)
    """SQLAlchemy URL: ``sqlite:////absolute/path.db`` by default, or ``postgresql://user:password@host:port/name``."""
    user_state_replicas: int = Field(1, ge=1)
    """More than one needs PostgreSQL."""
    retention_days: float | None = Field(None, gt=0)
    """Events and served lists that are older are removed in the background; by default nothing is."""
    drifting_low: float = Field(0.0, ge=0, le=1)
    """A tenant is told when the share of users with a drift alarm falls below this."""
    drifting_high: float = Field(0.5, ge=0, le=1)
    """A tenant is told when the share of users with a drift alarm rises above this."""
    drifting_window: int = Field(500, ge=1)
    """Newest assessed users of a tenant that the share is taken over."""
    internal_webhooks: bool = False
    """Whether webhooks may lead into the operator's own network, and by plain http to this machine."""
    router_replicas: int = Field(1, ge=1)
    """Processes that speak HTTP; they share each key's rate."""
    max_model_replicas: int = Field(2, ge=1)
    """Upper bound of each of Ranker and DriftDetector; the lower is 1, for loading a model takes long."""
    target_ongoing_requests: float | None = Field(None, gt=0)
    """Replicas of Ranker and DriftDetector are added while each has more than this to do; by default a quarter of
    ``max_ongoing_requests``."""
    scale_up_seconds: float = Field(30.0, gt=0)
    """How long load must be high before a replica is added; load is averaged over as long."""
    scale_down_seconds: float = Field(120.0, gt=0)
    """How long load must be low before a replica goes; at least ``scale_up_seconds``, or replicas would come and go."""
    num_cpus: float = Field(0.2, gt=0)
    """Logical CPUs that each replica claims. Fractions, so that the whole application fits a machine with two."""
    torch_threads: int = Field(1, ge=1)
    """Threads of one arithmetic operation; several replicas share the cores of a machine."""
    text_precision: TextPrecision = "fp32"
    """Of the language model that reads texts which the bundle does not know: those of new items, queries, documents to
    rerank. ``bf16`` and ``int8`` are faster and a little off, on CPUs that have instructions for them."""
    max_ongoing_requests: int = Field(64, ge=1)
    """Requests that a replica works on at once."""
    max_queued_requests: int = Field(256, ge=0)
    """Requests that may wait for a deployment; one more gets 503 with Retry-After."""
    timeout_seconds: float = Field(20.0, gt=0)
    """Limit of one call between deployments; beyond it a request gets 504."""
    rank_seconds: float = Field(5.0, gt=0)
    """How long ``/v1/recommend`` waits for a Ranker before it serves popular items, and says so; from then on
    1 s at most, until one answers."""
    history_events: int = Field(1000, ge=1)
    """How many of a user's newest events are read."""
    sweep_seconds: float = Field(60.0, gt=0)
    """Pause between two searches for drift states that lag."""
    max_body_bytes: int = Field(4 * 1024**2, ge=1024)
    """A larger body gets 413."""
    max_event_rows: int = Field(10_000, ge=1)
    """More events in one request get 413."""
    body_seconds: float = Field(20.0, gt=0)
    """A body that takes longer to arrive gets 408."""
    remember_key_seconds: float = Field(5.0, ge=0)
    """A revoked key may go on working for this long."""
    requests_per_second: float | None = Field(None, gt=0)
    """Rate limit of keys that have none of their own, over all Router replicas; by default there is none."""
    request_burst: int = Field(100, ge=1)
    """Requests that such a key may make at once."""
    open_documents: bool = True
    """Whether /openapi.json and /docs exist."""


def build_app(args: AppArgs) -> Application:
    """Check the bundle and bind the deployments.

    The bundle is in ``user_config`` only (see :class:`~driftline.serving.arms.Arms`): a configuration that overrides it
    for Ranker and DriftDetector swaps it without restarting a replica.

    Raises
    ------
    ConfigError
        If no bundle is named, or SQLite is to have several UserState replicas.
    BundleError
        If it is missing or corrupt: better now than in a replica.
    """
    named = args.bundle or os.environ.get("DRIFTLINE_BUNDLE")
    if not named:
        raise ConfigError(["no bundle is named: give bundle=DIR, or set DRIFTLINE_BUNDLE=DIR"], "serve.app:build")
    if args.user_state_replicas > 1 and args.database.startswith("sqlite"):
        fault = (
            f"user_state_replicas={args.user_state_replicas}: an SQLite file has one writer, on one machine; "
            "set it to 1, or database to postgresql://user:password@host:port/name"
        )
        raise ConfigError([fault], "serve.app:build")
    folder, _ = open_bundle(named)
    scaled = deployment_options(args) | {
        "user_config": {"champion": str(folder.resolve())},
        "autoscaling_config": AutoscalingConfig(
            min_replicas=1,
            max_replicas=args.max_model_replicas,
            target_ongoing_requests=args.target_ongoing_requests or max(1, args.max_ongoing_requests // 4),
            look_back_period_s=args.scale_up_seconds,
            upscale_delay_s=args.scale_up_seconds,
            downscale_delay_s=max(args.scale_up_seconds, args.scale_down_seconds),
        ),
    }
    drift_detector = serve.deployment(**scaled)(DriftDetector).bind(args.torch_threads)
    user_state = serve.deployment(**deployment_options(args), num_replicas=args.user_state_replicas)(UserState).bind(
        drift_detector,
        args.database,
        args.history_events,
        args.sweep_seconds,
        args.retention_days,
        PopulationBand(args.drifting_low, args.drifting_high, args.drifting_window),
        args.internal_webhooks,
    )
    ranker = serve.deployment(**scaled)(Ranker).bind(user_state, args.torch_threads, args.text_precision)
    settings = HttpSettings(
        max_body_bytes=args.max_body_bytes,
        max_event_rows=args.max_event_rows,
        body_seconds=args.body_seconds,
        remember_key_seconds=args.remember_key_seconds,
        open_documents=args.open_documents,
        limit=RateLimit(args.requests_per_second, args.request_burst) if args.requests_per_second else None,
        replicas=args.router_replicas,
        bundles=BundleSource(args.bundle_root, args.registry or default_registry(), args.registry_model),
    )
    capacity = _router_capacity(args)
    router = deployment_options(args) | {
        "num_replicas": args.router_replicas,
        "max_ongoing_requests": capacity,
        "max_queued_requests": capacity,
    }
    return serve.deployment(**router)(Router).bind(
        user_state, ranker, drift_detector, args.timeout_seconds, args.rank_seconds, settings
    )


def _router_capacity(args: AppArgs) -> int:
    """More than the deployments behind can hold, so that overload shows there, where it gets a proper answer."""
    return 64 + 2 * (args.max_ongoing_requests * args.max_model_replicas + args.max_queued_requests)


def deployment_options(args: AppArgs) -> dict[str, Any]:
    """What all deployments have in common."""
    return {
        "ray_actor_options": {"num_cpus": args.num_cpus},
        "max_ongoing_requests": args.max_ongoing_requests,
        "max_queued_requests": args.max_queued_requests,
        "health_check_period_s": 5.0,
        "health_check_timeout_s": 30.0,
        # Ray's own access log holds paths, and paths hold user ids: the envelope writes one that does not
        "logging_config": LoggingConfig(encoding="JSON", enable_access_log=False),
    }
