"""``/v1/items``."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from driftline.serving.messages.base import Body, Id, Line, Prose, Storable


class ItemIn(Body):
    """A catalogue entry. What it says is enough to rank the item before anybody has touched it."""

    title: Annotated[Line, StringConstraints(min_length=1)]
    year: Annotated[str, StringConstraints(max_length=16), Storable] = ""
    categories: list[Annotated[Line, StringConstraints(min_length=1)]] = Field([], max_length=64)
    description: Prose = ""


class ItemWithId(ItemIn):
    """A catalogue entry of a batch."""

    item_id: Id


class ItemBatchIn(Body):
    """Entries to write in one transaction."""

    items: list[ItemWithId] = Field(min_length=1, max_length=10_000)


class ItemOut(BaseModel):
    """A catalogue entry as the tenant wrote it, or as the bundle knows it."""

    item_id: str
    title: str
    year: str
    categories: list[str]
    description: str
    source: Literal["catalogue", "bundle"]
