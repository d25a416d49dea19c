"""``/v1/items``."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from driftline.serving.http.messages.base import Body, Id, Line, Prose, Storable


class ItemIn(Body):
    """A catalogue entry. What it says is enough to rank the item before anybody has touched it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "The Letter", "year": "2026", "categories": ["Drama", "Romance"]}]}
    )

    title: Annotated[Line, StringConstraints(min_length=1)]
    year: Annotated[str, StringConstraints(max_length=16), Storable] = ""
    categories: list[Annotated[Line, StringConstraints(min_length=1)]] = Field([], max_length=64)
    description: Prose = ""
    available: bool = Field(True, description="whether it may be in lists now; an unavailable item stays in histories")


class ItemWithId(ItemIn):
    """A catalogue entry of a batch."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": "n1", "title": "The Letter"}]})

    item_id: Id


class ItemBatchIn(Body):
    """Entries to write in one transaction."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"item_id": "n1", "title": "The Letter", "categories": ["Drama"]}]}]}
    )

    items: list[ItemWithId] = Field(min_length=1, max_length=10_000)


class ItemOut(BaseModel):
    """A catalogue entry as the tenant wrote it, or as the bundle knows it."""

    item_id: str
    title: str
    year: str
    categories: list[str]
    description: str
    available: bool
    source: Literal["catalogue", "bundle"]
