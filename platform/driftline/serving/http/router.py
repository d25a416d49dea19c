"""The Router: HTTP in front, the other deployments behind."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from driftline import __version__
from driftline.serving import telemetry
from driftline.serving.bundle_source import BundleSource
from driftline.serving.calls import Principal, RateLimit
from driftline.serving.heap import freeze_heap
from driftline.serving.http import problems
from driftline.serving.http.auth import Authenticator
from driftline.serving.http.backends import Backends
from driftline.serving.http.envelope import DOCUMENTS, PROBES, Envelope
from driftline.serving.http.methods import MethodGuard
from driftline.serving.http.openapi import DESCRIPTION, complete_description
from driftline.serving.http.rate_limit import RateLimiter
from driftline.serving.http.routes import add_routes
from driftline.serving.http.strict_route import StrictRoute


@dataclass(frozen=True)
class HttpSettings:
    """Limits of the HTTP application.

    Parameters
    ----------
    max_body_bytes, max_event_rows
        Beyond them a request gets 413.
    body_seconds
        A body that takes longer to arrive gets 408.
    remember_key_seconds
        For how long a good key is not looked up again, and so a revoked one may go on working.
    open_documents
        Whether ``/openapi.json`` and ``/docs`` need no key; they hold no data. If not, they do not exist.
    limit
        Rate limit of keys that have none of their own.
    replicas
        Number of Routers that share each key's limit.
    bundles
        Where bundles may be promoted from.
    """

    max_body_bytes: int
    max_event_rows: int
    body_seconds: float
    remember_key_seconds: float
    open_documents: bool
    limit: RateLimit | None
    replicas: int
    bundles: BundleSource


def build_http(backends: Backends, settings: HttpSettings) -> FastAPI:
    """Build the ASGI application over the given deployments."""
    app = FastAPI(
        title="Driftline",
        version=__version__,
        description=DESCRIPTION,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        openapi_url="/openapi.json" if settings.open_documents else None,
        docs_url="/docs",  # which does not exist without the former
    )
    app.router.route_class = StrictRoute
    problems.install(app)
    add_routes(app, backends, settings.max_event_rows, settings.bundles)
    complete_description(app)

    async def find(key_id: str, secret_sha256: str) -> Principal | None:
        principal: Principal | None = await backends.ask(backends.user_state, "principal", key_id, secret_sha256)
        return principal

    app.add_middleware(MethodGuard, routes=app.routes)
    app.add_middleware(
        Envelope,
        authenticate=Authenticator(find, settings.remember_key_seconds),
        open_paths=PROBES | (DOCUMENTS if settings.open_documents else frozenset()),
        limiter=RateLimiter(settings.limit, settings.replicas),
        max_body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
    )
    return app


@serve.ingress()
class Router:
    """Ingress deployment; any number of replicas."""

    def __init__(
        self,
        user_state: DeploymentHandle[Any],
        ranker: DeploymentHandle[Any],
        drift_detector: DeploymentHandle[Any],
        timeout_seconds: float,
        rank_seconds: float,
        settings: HttpSettings,
    ) -> None:
        self._backends = Backends(user_state, ranker, drift_detector, timeout_seconds, rank_seconds)
        self._settings = settings

    def check_health(self) -> None:
        """Tell what was counted."""
        telemetry.hand_over()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        app = build_http(self._backends, self._settings)
        freeze_heap()
        return app
