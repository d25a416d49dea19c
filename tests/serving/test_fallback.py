"""Popular items in the place of a list that no Ranker made."""

import asyncio
from typing import Any

from driftline.ranking.filters import ItemRules
from driftline.serving.calls import RankQuestion
from driftline.serving.catalogue import TenantCatalogue
from driftline.serving.http.backends import Backends
from driftline.serving.http.fallback import Fallback, Popular, popular_list
from driftline.state.store import CatalogueItem

POPULAR = Popular(
    "b-1",
    [
        CatalogueItem("a", "Alien", "1979", ("Horror",)),
        CatalogueItem("b", "Brazil", "1985", ("Comedy",)),
        CatalogueItem("c", "Carrie", "1976", ("Horror",)),
        CatalogueItem("d", "Duel", "1971", ("Thriller",)),
    ],
    [-1.0, -2.0, -3.0, -4.0],
)


def ids(question: RankQuestion, catalogue: TenantCatalogue | None = None) -> list[str]:
    return [item.item_id for item in popular_list(question, POPULAR, catalogue or TenantCatalogue()).items]


def test_most_popular_first_without_what_the_user_has_had() -> None:
    made = popular_list(RankQuestion("acme", 0, ["b"], k=2), POPULAR, TenantCatalogue())
    assert [(item.item_id, item.score) for item in made.items] == [("a", -1.0), ("c", -3.0)]
    assert made.policy.name == "popular"
    assert "no ranker" in made.policy.reason


def test_what_the_tenant_deleted_or_cannot_sell_is_not_there_and_titles_are_the_tenants() -> None:
    catalogue = TenantCatalogue()
    catalogue.apply(
        3,
        [
            CatalogueItem("a", "", deleted=True),
            CatalogueItem("b", "Brazil", available=False),
            CatalogueItem("c", "Carrie, restored", "1976", ("Horror",)),
        ],
    )
    made = popular_list(RankQuestion("acme", 3, []), POPULAR, catalogue)
    assert [item.title for item in made.items] == ["Carrie, restored", "Duel"]


def test_the_rules_of_a_request_hold() -> None:
    assert ids(RankQuestion("acme", 0, [], rules=ItemRules(any_category=("horror",)))) == ["a", "c"]
    assert ids(RankQuestion("acme", 0, [], rules=ItemRules(year_to=1976))) == ["c", "d"]
    assert ids(RankQuestion("acme", 0, [], exclude=["a"], only_items=["a", "d"])) == ["d"]
    assert ids(RankQuestion("acme", 0, [], caps=1, k=3)) == ["a", "b", "d"]
    assert ids(RankQuestion("acme", 0, ["a", "d"], seen="only")) == ["a", "d"]
    assert ids(RankQuestion("acme", 0, ["a"], seen="include", k=2)) == ["a", "b"]


class Deployments(Backends):
    """Stands for the deployments: a Ranker that knows popular items, a UserState without catalogue."""

    async def ask(self, handle: Any, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        return {"popular": POPULAR, "catalogue_since": (0, [])}[method]


def test_patience_is_short_from_the_first_popular_list_until_a_ranker_answers() -> None:
    async def course() -> list[float]:
        fallback = Fallback(Deployments(None, None, None, 20.0, 5.0))  # type: ignore[arg-type]
        waits = [fallback.patience(5.0)]
        assert await fallback.rank(RankQuestion("acme", 0, [])) is None  # nothing is known yet: wait as long as before
        waits.append(fallback.patience(5.0))
        fallback.refresh()
        await asyncio.sleep(0.01)
        assert await fallback.rank(RankQuestion("acme", 0, [])) is not None
        waits += [fallback.patience(5.0), fallback.patience(0.5)]
        fallback.refresh()
        return [*waits, fallback.patience(5.0)]

    assert asyncio.run(course()) == [5.0, 5.0, 1.0, 0.5, 5.0]
