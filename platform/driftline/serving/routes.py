"""The endpoints, each with the scope that it needs."""

import asyncio
import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request
from fastapi.routing import APIRoute

from driftline.events.store import CatalogueItem, ServedList, StoredEvent
from driftline.serving import answers
from driftline.serving.auth import Needs
from driftline.serving.backends import Backends
from driftline.serving.calls import Assessment, Principal, RankQuestion, UserView
from driftline.serving.envelope import DOCUMENTS, EVENTS_PATH, PROBES, media_type
from driftline.serving.ingestion import NDJSON, merge_statuses, parse_events
from driftline.serving.messages import (
    DriftIn,
    DriftVerdictOut,
    EventIn,
    EventsOut,
    EventStatus,
    Id,
    ItemBatchIn,
    ItemIn,
    ItemOut,
    ListOut,
    ProblemOut,
    RankIn,
    ReadyOut,
    RecommendIn,
    UserOut,
    WrittenOut,
)
from driftline.serving.problems import Problem, overloaded

Reader = Annotated[Principal, Depends(Needs("read"))]
Writer = Annotated[Principal, Depends(Needs("write"))]
PathId = Annotated[Id, Path()]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut, "content": {"application/problem+json": {}}}
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 503, 504)
}
EVENT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "items": EventIn.model_json_schema()}},
            NDJSON: {"schema": {"type": "string", "description": "one event as a JSON object per line"}},
        },
    }
}


def add_routes(app: FastAPI, backends: Backends, max_event_rows: int) -> None:
    """Add every endpoint to the application, then make sure that none is open by omission."""
    _add_probes(app, backends)
    _add_events(app, backends, max_event_rows)
    _add_items(app, backends)
    _add_users(app, backends)
    _add_lists(app, backends)
    check_scopes(app)


def check_scopes(app: FastAPI) -> None:
    """Fail if a route neither is a probe or a document nor names the scope that it needs."""
    for route in app.routes:
        path = getattr(route, "path", "")
        if path in PROBES | DOCUMENTS:
            continue
        if not isinstance(route, APIRoute) or route_scope(route) is None:
            raise RuntimeError(f"route {path!r} names no scope: give it a parameter of type Reader or Writer")


def route_scope(route: APIRoute) -> str | None:
    """Scope that a route needs; ``None`` if it names none."""
    scopes = [d.call.scope for d in route.dependant.dependencies if isinstance(d.call, Needs)]
    return scopes[0] if len(scopes) == 1 else None


def _add_probes(app: FastAPI, backends: Backends) -> None:
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


def _add_events(app: FastAPI, backends: Backends, max_event_rows: int) -> None:
    @app.post(EVENTS_PATH, openapi_extra=EVENT_BODY)
    async def post_events(request: Request, key: Writer) -> EventsOut:
        """Ingest events. The answer comes after the commit; sending the same events again is harmless."""
        kind = media_type(request.headers)
        rows = await asyncio.to_thread(parse_events, await request.body(), kind, max_event_rows)
        events = [row for row in rows if isinstance(row, StoredEvent)]
        appended = await backends.ask(backends.user_state, "append_events", key.tenant, events)
        outcomes = merge_statuses(rows, appended.statuses)
        return EventsOut(
            accepted=_count(outcomes, "accepted"),
            duplicate=_count(outcomes, "duplicate"),
            rejected=_count(outcomes, "rejected"),
            version=appended.version,
            events=outcomes,
            request_id=request.state.request_id,
        )


def _add_items(app: FastAPI, backends: Backends) -> None:
    async def write(request: Request, tenant: str, items: list[CatalogueItem]) -> WrittenOut:
        version = await backends.ask(backends.user_state, "upsert_items", tenant, items)
        return WrittenOut(version=version, request_id=request.state.request_id)

    @app.put("/v1/items/{item_id:path}")
    async def put_item(request: Request, item_id: PathId, body: ItemIn, key: Writer) -> WrittenOut:
        """Add or replace a catalogue entry; it can be ranked on the next request."""
        return await write(request, key.tenant, [_entry(item_id, body)])

    @app.post("/v1/items:batch")
    async def put_items(request: Request, body: ItemBatchIn, key: Writer) -> WrittenOut:
        """Add or replace many catalogue entries at once; of two with one id the last counts."""
        return await write(request, key.tenant, [_entry(item.item_id, item) for item in body.items])

    @app.get("/v1/items/{item_id:path}")
    async def get_item(item_id: PathId, key: Reader) -> ItemOut:
        """Read an entry of the tenant's catalogue, or of the bundle's."""
        own: CatalogueItem | None = await backends.ask(backends.user_state, "item", key.tenant, item_id)
        if own is not None and not own.deleted:
            return answers.catalogue_item(own, from_bundle=False)
        trained: CatalogueItem | None = None
        if own is None:
            trained = await backends.ask(backends.ranker, "bundle_item", item_id)
        if trained is None:
            raise Problem(404, "there is no such item: add it with PUT")
        return answers.catalogue_item(trained, from_bundle=True)

    @app.delete("/v1/items/{item_id:path}")
    async def delete_item(request: Request, item_id: PathId, key: Writer) -> WrittenOut:
        """Take an item out of every list; deleting it again is harmless."""
        return await write(request, key.tenant, [CatalogueItem(item_id, title="", deleted=True)])


def _add_users(app: FastAPI, backends: Backends) -> None:
    @app.get("/v1/users/{user_id:path}")
    async def get_user(request: Request, user_id: PathId, key: Reader) -> UserOut:
        """Profile: interests, history, drift state and the policy now in force."""
        view: UserView = await backends.ask(backends.user_state, "read_user", key.tenant, user_id, None)
        if not view.known:
            raise Problem(404, "there is no such user: a user begins with the first event")
        portrait = await backends.ask(backends.ranker, "portray", _question(key.tenant, view))
        return answers.user_profile(user_id, view, portrait, request.state.request_id)

    @app.delete("/v1/users/{user_id:path}")
    async def delete_user(request: Request, user_id: PathId, key: Writer) -> WrittenOut:
        """Erase history, drift state and served lists; deleting a user again is harmless."""
        version = await backends.ask(backends.user_state, "erase_user", key.tenant, user_id)
        return WrittenOut(version=version, request_id=request.state.request_id)


def _add_lists(app: FastAPI, backends: Backends) -> None:
    @app.post("/v1/recommend")
    async def recommend(request: Request, body: RecommendIn, key: Reader) -> ListOut:
        """A list for a user; an unknown user gets one too, and the policy says so."""
        view: UserView = await backends.ask(
            backends.user_state, "read_user", key.tenant, body.user_id, body.min_version
        )
        question = replace(
            _question(key.tenant, view),
            k=body.k,
            exclude=body.exclude,
            categories=body.filters.categories if body.filters else (),
            diversity=body.diversity,
        )
        answer = answers.ranked_list(
            await backends.ask(backends.ranker, "rank", question), view, view.version, request.state.request_id
        )
        backends.tell(backends.user_state, "record_served", _served(key.tenant, body.user_id, answer))
        return answer

    @app.post("/v1/rank")
    async def rank(request: Request, body: RankIn, key: Reader) -> ListOut:
        """Order given candidates for a user or a history."""
        if body.user_id is not None:
            view: UserView | None = await backends.ask(
                backends.user_state, "read_user", key.tenant, body.user_id, body.min_version
            )
            assert view is not None
            version, question = view.version, _question(key.tenant, view)
        else:
            view = None
            version, catalogue = await backends.ask(backends.user_state, "versions", key.tenant, body.min_version)
            question = RankQuestion(key.tenant, catalogue, body.history or [])
        question = replace(question, k=len(body.candidates), candidates=body.candidates)
        ranking = await backends.ask(backends.ranker, "rank", question)
        return answers.ranked_list(ranking, view, version, request.state.request_id)

    @app.post("/v1/drift")
    async def drift(request: Request, body: DriftIn, key: Reader) -> DriftVerdictOut:
        """Whether a history changed, where, and how sure that is; nothing is stored."""
        assessment: Assessment | None = await backends.ask(backends.drift_detector, "assess", body.history)
        if assessment is None:
            raise Problem(501, "the bundle in force was trained with drift.enabled=false: serve one with a drift part")
        return answers.verdict(assessment, request.state.request_id)


def _count(outcomes: list[EventStatus], status: str) -> int:
    return sum(outcome.status == status for outcome in outcomes)


def _entry(item_id: str, body: ItemIn) -> CatalogueItem:
    return CatalogueItem(item_id, body.title, body.year, tuple(body.categories), body.description)


def _question(tenant: str, view: UserView) -> RankQuestion:
    return RankQuestion(tenant, view.catalogue_version, view.item_ids, drift=view.drift, drift_bundle=view.drift_bundle)


def _served(tenant: str, user_id: str, answer: ListOut) -> ServedList:
    return ServedList(
        tenant=tenant,
        request_id=answer.request_id,
        user_id=user_id,
        items=tuple(item.item_id for item in answer.items),
        policy=answer.policy.name,
        bundle=answer.bundle,
        served_at=time.time(),
        version=answer.version,
    )
