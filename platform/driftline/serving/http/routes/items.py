"""``/v1/items``."""

from fastapi import FastAPI, Request

from driftline.serving.http import answers
from driftline.serving.http.backends import Backends
from driftline.serving.http.messages.base import WrittenOut
from driftline.serving.http.messages.items import ItemBatchIn, ItemIn, ItemOut
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import PathId, Reader, Writer
from driftline.state.store import CatalogueItem


def add(app: FastAPI, backends: Backends) -> None:
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
        version = await backends.ask(backends.user_state, "delete_item", key.tenant, item_id, key.key_id)
        return WrittenOut(version=version, request_id=request.state.request_id)


def _entry(item_id: str, body: ItemIn) -> CatalogueItem:
    return CatalogueItem(
        item_id, body.title, body.year, tuple(body.categories), body.description, available=body.available
    )
