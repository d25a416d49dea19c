"""Which bundles are in force: the log of promotions, who belongs to which arm, and replicas that follow."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from driftline.errors import BundleError
from driftline.serving import audit
from driftline.serving.arms import Arms, share_of
from driftline.serving.bundle_source import BundleSource
from driftline.serving.loaded_arms import InForce
from driftline.serving.promotions import Change, Mode, PromotionError, find_promotion, promote
from driftline.state.store import ServedList, ShadowList, Store

CONFIGURED = Arms(champion="/b/a")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/state.db")
    yield opened
    opened.close()


def change(mode: Mode, bundle: str = "", weight: float = 0.0) -> Change:
    return Change(mode, bundle, weight, "acme", "k1")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "champion"),
        ({"bundle": "/b/a"}, "bundle"),
        ({"champion": "/b/a", "challenger_weight": 0.5}, "need a challenger"),
        ({"champion": "/b/a", "shadow": True}, "need a challenger"),
        ({"champion": "/b/a", "challenger": "/b/a"}, "name another bundle"),
        ({"champion": "/b/a", "challenger": "/b/b", "challenger_weight": 1.5}, "less than or equal to 1"),
    ],
)
def test_arms_that_make_no_sense_are_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Arms.model_validate(config)


def test_a_user_keeps_the_arm_while_the_weight_grows_and_the_share_is_the_weight() -> None:
    places = [share_of("b2", "acme", f"u{n}") for n in range(10_000)]
    assert all(0 <= place < 1 for place in places)
    for weight in (0.01, 0.1, 0.5):
        assert sum(place < weight for place in places) / 10_000 == pytest.approx(weight, abs=0.015)
    assert share_of("b2", "acme", "u1") == share_of("b2", "acme", "u1")
    others = [share_of("b3", "acme", f"u{n}") for n in range(10_000)]
    both = sum(a < 0.1 and b < 0.1 for a, b in zip(places, others, strict=True))
    assert both / 10_000 == pytest.approx(0.01, abs=0.005)  # another challenger is tried out by other users
    assert share_of("b2", "ab", "c") != share_of("b2", "a", "bc")


def test_arms_split_users_and_a_shadow_answers_nobody() -> None:
    a, b = SimpleNamespace(version="a"), SimpleNamespace(version="b")
    canary = Arms(champion="/b/a", challenger="/b/b", challenger_weight=0.3)
    force = InForce(canary, a, b, 1, 0.0)  # type: ignore[arg-type]
    for user in (f"u{n}" for n in range(100)):
        expected = "challenger" if share_of("b", "acme", user) < 0.3 else "champion"
        assert force.arm_of("acme", user)[0] == expected
        assert force.shadow_of("acme", user) is None
    assert force.arm_of("acme", None)[0] == "champion"  # an inline history has no user
    shadow = Arms(champion="/b/a", challenger="/b/b", challenger_weight=1.0, shadow=True)
    force = InForce(shadow, a, b, 1, 0.0)  # type: ignore[arg-type]
    assert force.arm_of("acme", "u1") == ("champion", a)
    assert force.shadow_of("acme", "u1") is b


def test_promotions_replace_one_another_and_are_rolled_back_one_by_one(store: Store) -> None:
    assert find_promotion(store, "/b/a") is None
    first = promote(store, CONFIGURED, change("challenger", "/b/b", 0.25))
    assert first.arms == Arms(champion="/b/a", challenger="/b/b", challenger_weight=0.25)
    second = promote(store, CONFIGURED, change("champion", "/b/b"))
    assert second.arms == Arms(champion="/b/b")  # the challenge is over
    third = promote(store, CONFIGURED, change("shadow", "/b/c", 1.0))
    assert third.arms == Arms(champion="/b/b", challenger="/b/c", challenger_weight=1.0, shadow=True)
    assert find_promotion(store, "/b/a") == third
    back = [promote(store, CONFIGURED, change("rollback")).arms for _ in range(3)]
    assert back == [second.arms, first.arms, CONFIGURED]
    with pytest.raises(PromotionError, match="nothing was promoted"):
        promote(store, CONFIGURED, change("rollback"))
    again = promote(store, CONFIGURED, change("champion", "/b/c"))
    assert promote(store, CONFIGURED, change("rollback")).arms == CONFIGURED
    assert again.number > third.number
    assert [entry.subject for entry in audit.read(store)][:3] == ["challenger b", "champion b", "shadow c"]


def test_the_champion_cannot_challenge_itself(store: Store) -> None:
    with pytest.raises(PromotionError, match="is the champion in force"):
        promote(store, CONFIGURED, change("challenger", "/b/a", 0.5))
    assert find_promotion(store, "/b/a") is None


def test_another_configuration_is_not_overruled_by_an_older_promotion(store: Store) -> None:
    promoted = promote(store, CONFIGURED, change("champion", "/b/b"))
    assert find_promotion(store, "/b/other") is None
    with pytest.raises(PromotionError):
        promote(store, Arms(champion="/b/other"), change("rollback"))
    assert find_promotion(store, "/b/a") == promoted


def test_a_shadow_is_added_to_its_list_and_goes_with_the_user(store: Store) -> None:
    store.add_served([ServedList("acme", "r1", "ada", ("i1",), "steady", "a", time.time(), 0)])
    shadow = {"bundle": "b", "items": ["i2"], "scores": [-1.0], "policy": "steady"}
    store.add_shadows([ShadowList("acme", "r1", shadow), ShadowList("beta", "r1", shadow)])
    found = store.served_list("acme", "r1")
    assert found is not None
    assert found.shadow == shadow
    store.erase_user("acme", "ada")
    store.add_shadows([ShadowList("acme", "r1", shadow)])  # it was under way during the erasure
    assert store.served_list("acme", "r1") is None


def test_bundles_come_from_under_the_root_only(tiny_bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny_bundle, root / "inside")
    shutil.copytree(tiny_bundle, tmp_path / "outside")
    (root / "link").symlink_to(tmp_path / "outside")
    source = BundleSource(root, "", "driftline")
    expected = json.loads((tiny_bundle / "manifest.json").read_text())["id"]
    assert source.find("inside") == (root / "inside", expected)
    assert source.find(str(root / "inside"))[1] == expected
    for named in ("../outside", str(tmp_path / "outside"), "link", "", ".", "/", "x" * 300):
        with pytest.raises(BundleError):
            source.find(named)
    (root / "inside" / "gate.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match="gate.safetensors has sha256"):
        source.find("inside")
    assert source.registered() == {}


def test_nothing_of_a_bundle_is_ever_unpickled() -> None:
    root = Path(__file__).resolve().parents[2] / "platform/driftline"
    for file in [*(root / "registry").glob("*.py"), *(root / "serving").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        for call in ("import pickle", "torch.load(", "allow_pickle", "joblib", "cloudpickle"):
            assert call not in text, (file, call)
