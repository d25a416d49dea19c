"""Popular items in the place of a list that no Ranker made."""

from driftline.ranking.filters import ItemRules
from driftline.serving.calls import RankQuestion
from driftline.serving.catalogue import TenantCatalogue
from driftline.serving.http.fallback import Popular, popular_list
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
