"""Business rules of a request: which items may be in the list, and how many of a kind."""

from typing import Annotated

from pydantic import ConfigDict, Field

from driftline.ranking.filters import NO_RULES, ItemRules
from driftline.serving.calls import Seen
from driftline.serving.http.messages.base import MAX_CANDIDATES, MAX_K, Body, Id, Line

Names = Annotated[list[Line], Field(min_length=1, max_length=64)]
Year = Annotated[int, Field(ge=0, le=9999)]
Limit = Annotated[int, Field(ge=0, le=MAX_K)]
MaxPerCategory = Annotated[
    Limit
    | Annotated[dict[Line, Limit], Field(max_length=64, json_schema_extra={"additionalProperties": False})]
    | None,
    Field(description="at most so many items of each category, or of those that are named; diversity stays in force"),
]
SeenRule = Annotated[
    Seen | None,
    Field(description="items of the history; by default the catalogue's setting in lists, 'include' elsewhere"),
]


class Filters(Body):
    """Which items may be in the list: all that is given must hold. Category names are compared without case."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"categories": ["Drama"], "categories_none": ["War"], "year_from": 1990}]}
    )

    categories: Names | None = Field(None, description="at least one of these")
    categories_all: Names | None = Field(None, description="every one of these")
    categories_none: Names | None = Field(None, description="not one of these")
    year_from: Year | None = Field(None, description="this year or later; items without a year are out")
    year_to: Year | None = Field(None, description="this year or earlier; items without a year are out")
    items: list[Id] | None = Field(None, min_length=1, max_length=MAX_CANDIDATES, description="none but these")

    def rules(self) -> ItemRules:
        """The rules on catalogue fields."""
        return ItemRules(
            any_category=tuple(self.categories or ()),
            all_categories=tuple(self.categories_all or ()),
            no_category=tuple(self.categories_none or ()),
            year_from=self.year_from,
            year_to=self.year_to,
        )


def item_rules(filters: Filters | None) -> ItemRules:
    """Rules of a request that may have none."""
    return filters.rules() if filters else NO_RULES
