"""``/v1/similar``, ``/v1/search`` and ``/v2/rerank``."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from driftline.registry.lookup import SEARCH_WEIGHT
from driftline.serving.http.messages.base import MAX_CANDIDATES, MAX_K, Body, Id, Line, Prose, UserId, Version
from driftline.serving.http.messages.rules import Filters, SeenRule

Question = Annotated[Prose, StringConstraints(min_length=1)]
_ITEM_OR_TEXT: dict[str, Any] = {
    "oneOf": [
        {"required": ["item_id"], "properties": {"item_id": {"type": "string"}, "text": {"type": "null"}}},
        {"required": ["text"], "properties": {"text": {"type": "string"}, "item_id": {"type": "null"}}},
    ],
    "examples": [{"item_id": "50", "k": 3}, {"text": "a heist in Paris", "filters": {"year_to": 1980}}],
}


class SimilarIn(Body):
    """Ask for items like an item, or like a text."""

    model_config = ConfigDict(json_schema_extra=_ITEM_OR_TEXT)

    item_id: Id | None = None
    text: Question | None = None
    k: int = Field(10, ge=1, le=MAX_K)
    filters: Filters | None = None
    exclude: list[Id] = Field([], max_length=MAX_CANDIDATES)
    min_version: Version | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> "SimilarIn":
        if (self.item_id is None) == (self.text is None):
            raise ValueError("give exactly one of item_id and text")
        return self


class SearchIn(Body):
    """Ask for items that answer a query; with a user, by that user's taste as well."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "fargo"}, {"query": "funny and sad", "user_id": "ada", "k": 3}]}
    )

    query: Question
    user_id: UserId | None = None
    k: int = Field(10, ge=1, le=MAX_K)
    personalisation: float = Field(SEARCH_WEIGHT, ge=0, le=0.5, description="weight of the user's taste in the score")
    seen: SeenRule = None
    filters: Filters | None = None
    exclude: list[Id] = Field([], max_length=MAX_CANDIDATES)
    min_version: Version | None = None


class FoundOut(BaseModel):
    """One place of a list; all figures are in 0..1."""

    item_id: str
    title: str
    score: float = Field(description="what the list is ordered by")
    match: float = Field(description="how well the item answers the question, whoever asks")
    taste: float | None = Field(description="place in the user's taste, 1 for the favourite; null without a user")


class FoundListOut(BaseModel):
    """What was found, best first."""

    items: list[FoundOut]
    bundle: str
    version: int = Field(description="version of the store that the list was made from")
    request_id: str


class DocumentIn(Body):
    """A document as an object."""

    text: Prose


class RerankIn(Body):
    """A rerank request as Cohere's API v2 has it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "driftline", "query": "a heist", "documents": ["Rififi (1955)", "Casablanca"]}]
        }
    )

    query: Question
    documents: list[Prose | DocumentIn] = Field(min_length=1, max_length=MAX_CANDIDATES)
    model: Line | None = Field(None, description="the bundle in force answers whatever is asked for, and says so")
    top_n: int | None = Field(None, ge=1, description="all, if it is more than there are documents")
    max_tokens_per_doc: int | None = Field(None, ge=1, description="a text tower may read less, and then says so")
    priority: int | None = Field(None, ge=0, le=999, description="taken, without effect")


class RerankResultOut(BaseModel):
    """One document by its place in the request."""

    index: int
    relevance_score: float = Field(description="0..1")


class ApiVersionOut(BaseModel):
    """Which API this answer follows."""

    version: str = "2"


class BilledUnitsOut(BaseModel):
    """Nothing is billed; clients expect the field."""

    search_units: float = 0.0


class RerankMetaOut(BaseModel):
    """What the caller should know about the answer."""

    api_version: ApiVersionOut = ApiVersionOut()
    billed_units: BilledUnitsOut = BilledUnitsOut()
    warnings: list[str]


class RerankOut(BaseModel):
    """Documents, most relevant first."""

    id: str
    results: list[RerankResultOut]
    meta: RerankMetaOut
