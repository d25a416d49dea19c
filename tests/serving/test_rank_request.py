"""Business rules, from a question to a model's request, on the ten items of ``tests/registry/parts.py``."""

import pytest

from driftline.ranking.filters import ItemRules
from driftline.registry.model import Model
from driftline.serving.calls import LookupQuestion, RankQuestion
from driftline.serving.catalogue import TenantCatalogue
from driftline.serving.rank_request import lookup_request, rank_request
from driftline.state.store import CatalogueItem
from tests.registry.parts import ITEMS, config_of, contents_of
from tests.tiny import write_base

NEW = CatalogueItem("n1", "New", "2026", ("Drama",))
LATER = CatalogueItem("i1", "Dusty Ranch", "1999", ("Western",))
SOLD_OUT = CatalogueItem("i2", "Lonesome Saloon", "1950", ("Western",), available=False)
GONE = CatalogueItem("i3", "", deleted=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("rules")
    return Model(contents_of(config_of(write_base(folder / "base"), folder)))


@pytest.fixture
def catalogue() -> TenantCatalogue:
    """n1 is new, i1 was rewritten, i2 is sold out, i3 is deleted."""
    made = TenantCatalogue()
    made.apply(1, [NEW, LATER, SOLD_OUT, GONE])
    return made


def test_the_moment_of_a_question_reaches_the_model(model: Model, catalogue: TenantCatalogue) -> None:
    asked = RankQuestion("acme", 1, ["i7"], times_s=[3.0], now_s=5.0)
    assert rank_request(asked, model, catalogue).request.now_s == 5.0
    searched = LookupQuestion("acme", 1, text="a ranch", history=["i7"], times_s=[3.0], now_s=5.0)
    assert lookup_request(searched, model, catalogue).now_s == 5.0


def recommended(model: Model, catalogue: TenantCatalogue, **question: object) -> list[str]:
    asked = RankQuestion("acme", 1, ["i7", "i8"], k=20, **question)  # type: ignore[arg-type]
    return sorted(i.item_id for i in model.recommend_batch([rank_request(asked, model, catalogue).request])[0].items)


def test_what_is_deleted_or_cannot_be_had_is_in_no_list(model: Model, catalogue: TenantCatalogue) -> None:
    assert recommended(model, catalogue) == ["i0", "i1", "i4", "i5", "i6", "i9", "n1"]  # i7 and i8 were had
    asked = RankQuestion("acme", 1, [], k=9, candidates=["i2", "i3", "i4", "nobody"])
    resolved = rank_request(asked, model, catalogue)
    assert resolved.request.candidates == ["i4"]
    assert (resolved.unknown, resolved.unavailable) == (["i3", "nobody"], ["i2"])
    catalogue.apply(2, [CatalogueItem("i2", "Lonesome Saloon")])
    assert "i2" in recommended(model, catalogue)


@pytest.mark.parametrize(
    ("seen", "items"),
    [
        ("exclude", ["i0", "i1", "i4", "i5", "i6", "i9", "n1"]),
        ("include", ["i0", "i1", "i4", "i5", "i6", "i7", "i8", "i9", "n1"]),
        ("only", ["i7", "i8"]),
    ],
)
def test_what_was_had_is_left_out_kept_or_asked_for(
    model: Model, catalogue: TenantCatalogue, seen: str, items: list[str]
) -> None:
    assert recommended(model, catalogue, seen=seen) == items


@pytest.mark.parametrize(
    ("rules", "items"),
    [
        (ItemRules(any_category=("western",)), ["i0", "i1"]),
        (ItemRules(any_category=("western", "drama"), year_from=1999), ["i1", "n1"]),
        (ItemRules(no_category=("Western",), year_to=1950), ["i4", "i5", "i6", "i9"]),
    ],
)
def test_the_tenants_fields_count_where_it_wrote_an_item(
    model: Model, catalogue: TenantCatalogue, rules: ItemRules, items: list[str]
) -> None:
    assert recommended(model, catalogue, rules=rules) == items


def test_rules_also_narrow_given_candidates_and_named_items(model: Model, catalogue: TenantCatalogue) -> None:
    western = ItemRules(any_category=("Western",))
    assert recommended(model, catalogue, rules=western, candidates=["i1", "i4"]) == ["i1"]
    assert recommended(model, catalogue, rules=western, only_items=["i0", "i4"]) == ["i0"]
    assert recommended(model, catalogue, only_items=["i9", "i2", "i7"]) == ["i9"]


def test_caps_count_the_tenants_categories(model: Model, catalogue: TenantCatalogue) -> None:
    western = recommended(model, catalogue, caps={"WESTERN": 1})
    assert len({"i0", "i1"} & set(western)) == 1
    assert len(western) == 6
    assert recommended(model, catalogue, caps={"Western": 0, "Drama": 0}) == ["i4", "i5", "i6", "i9"]


def test_a_search_finds_what_was_had_unless_it_says_otherwise(model: Model, catalogue: TenantCatalogue) -> None:
    def found(**question: object) -> list[str]:
        asked = LookupQuestion("acme", 1, text="x", k=20, history=["i7", "i8"], **question)  # type: ignore[arg-type]
        return sorted(one.item_id for one in model.lookup.find([lookup_request(asked, model, catalogue)])[0])

    everything = sorted({*ITEMS, "n1"} - {"i2", "i3"})
    assert found() == everything
    assert found(seen="exclude") == sorted(set(everything) - {"i7", "i8"})
    assert found(seen="only", exclude=["i8"]) == ["i7"]
    assert found(rules=ItemRules(any_category=("Drama",))) == ["n1"]
