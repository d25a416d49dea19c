"""``/v1/explanations``."""

from pydantic import BaseModel, Field

from driftline.serving.http.messages.lists import PolicyOut


class CarrierOut(BaseModel):
    """An event of the history and what it contributed to the item's score."""

    position: int = Field(description="index into the history that was read")
    item_id: str
    title: str
    contribution: float = Field(description="nats; negative: it spoke against the item")


class GraphPathOut(BaseModel):
    """The knowledge graph relates the item to an item of the history."""

    relation: str
    item_id: str
    title: str


class ItemExplanationOut(BaseModel):
    """Facts about one item of the list."""

    item_id: str
    title: str
    served_score: float | None
    score: float = Field(description="log-probability, worked out again from the history of the list's version")
    baseline: float = Field(description="the same for an empty history; all contributions add up to the difference")
    carriers: list[CarrierOut] = Field(description="events that contributed most, either way, strongest first")
    other_events: float = Field(description="sum of all other contributions")
    graph: list[GraphPathOut]
    cold_start: str | None
    sentence: str


class ExplanationOut(BaseModel):
    """Why each item was in a list."""

    request_id: str = Field(description="of the list")
    user_id: str
    served_at: float
    bundle: str
    version: int = Field(description="version of the store that the list was made from")
    policy: PolicyOut
    items: list[ItemExplanationOut]
    note: str | None = Field(description="set where history or catalogue have changed, so that scores differ")
