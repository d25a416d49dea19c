"""The endpoints, each with the scope that it needs; a module for each group."""

from fastapi import FastAPI
from fastapi.routing import APIRoute

from driftline.serving.bundle_source import BundleSource
from driftline.serving.http.auth import Needs
from driftline.serving.http.backends import Backends
from driftline.serving.http.envelope import DOCUMENTS, PROBES
from driftline.serving.http.routes import (
    bundles,
    drift,
    events,
    explanations,
    items,
    lists,
    lookups,
    probes,
    timeline,
    users,
    webhook,
)


def add_routes(app: FastAPI, backends: Backends, max_event_rows: int, source: BundleSource) -> None:
    """Add every endpoint to the application, then make sure that none is open by omission."""
    lists.add(app, backends)  # the busiest first: paths are compared in this order
    events.add(app, backends, max_event_rows)
    probes.add(app, backends)
    items.add(app, backends)
    timeline.add(app, backends)  # before users, whose ids may hold slashes
    users.add(app, backends)
    lookups.add(app, backends)
    drift.add(app, backends)
    webhook.add(app, backends)
    explanations.add(app, backends)
    bundles.add(app, backends, source)
    check_scopes(app)


def check_scopes(app: FastAPI) -> None:
    """Fail if a route neither is a probe or a document nor names the scope that it needs."""
    for route in app.routes:
        path = getattr(route, "path", "")
        if path in PROBES | DOCUMENTS:
            continue
        if not isinstance(route, APIRoute) or route_scope(route) is None:
            raise RuntimeError(f"route {path!r} names no scope: give it a parameter of type Reader, Writer or Admin")


def route_scope(route: APIRoute) -> str | None:
    """Scope that a route needs; ``None`` if it names none."""
    scopes = [d.call.scope for d in route.dependant.dependencies if isinstance(d.call, Needs)]
    return scopes[0] if len(scopes) == 1 else None
