"""The parts of a bundle survive a write and a read."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import driftline
from driftline.drift.calibration import DriftCalibration
from driftline.drift.report import DriftVerdict
from driftline.errors import BundleError, DataError
from driftline.models.adapters import adapter_state
from driftline.models.build import build_ranker
from driftline.ranking.requests import RankRequest
from driftline.registry.bundle import write_bundle
from driftline.registry.contents import Contents
from driftline.registry.explanation import explain
from driftline.registry.lookup import LookupRequest
from driftline.registry.model import Model
from driftline.sequences.user_attributes import UserAttributes
from tests.registry.parts import config_of, contents_of, manifest_of

HISTORY = ["i0", "i3", "i5", "i1", "i8"]


def test_every_part_comes_back_equal(model: Model, tmp_path: Path) -> None:
    model.contents.save(tmp_path)
    before, after = model.contents, Contents.load(tmp_path)
    assert after.config == before.config
    assert after.catalog == before.catalog
    assert after.held_out_users == before.held_out_users
    assert after.calibration == before.calibration
    for name in ("text", "ranker", "drift"):
        one, other = getattr(before, name), getattr(after, name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    for name in ("text_vectors_NT", "known_N", "drift_known_N", "verifier_ND"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    one, other = before.tables.to_arrays(), after.tables.to_arrays()
    assert one.keys() == other.keys() == {"popularity_N", "ease_NN", "markov_NN", "co_occurrence_NN"}
    assert all(np.array_equal(one[key], other[key]) for key in one)
    assert before.gate.components == after.gate.components
    assert all(
        torch.equal(one, other) for one, other in zip(before.gate.parameters(), after.gate.parameters(), strict=True)
    )


def test_a_loaded_bundle_answers_as_the_model_that_was_saved(model: Model, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b1", model.contents.save, lambda: manifest_of("b1"))
    loaded = driftline.load(folder)
    assert (loaded.version, model.version) == ("b1", "unsaved")
    assert loaded.held_out_users == ["u7", "用户"]
    assert_alike(loaded, model)
    np.testing.assert_equal(asdict(loaded.drift(HISTORY)), asdict(model.drift(HISTORY)))
    assert_alike(loaded, model, {"new": "Crooked Prairie (1955)."})


def assert_alike(loaded: Model, made: Model, new_items: dict[str, str] | None = None) -> None:
    """Same lists and scores, up to the last digits: where memory begins decides how sums are grouped."""
    np.testing.assert_allclose(loaded.score(HISTORY), made.score(HISTORY), rtol=1e-6, atol=1e-6)
    ours, theirs = (m.recommend(HISTORY, new_items=new_items).items for m in (loaded, made))
    assert [(item.item_id, item.title) for item in ours] == [(item.item_id, item.title) for item in theirs]
    assert [item.score for item in ours] == pytest.approx([item.score for item in theirs], rel=1e-6, abs=1e-6)


def test_a_bundle_with_sparse_tables(base: Path, tmp_path: Path) -> None:
    components = ["neural", "item-knn-recency", "markov", "popularity", "attention"]
    config = config_of(base, tmp_path, fusion={"components": components}, ranking={"dense_tables_up_to": 5})
    made = Model(contents_of(config))
    made.contents.save(tmp_path)
    loaded = Model(Contents.load(tmp_path))
    assert loaded.contents.tables.item_item == "item-knn"
    assert_alike(loaded, made)


def test_a_drift_part_of_before_the_verifier_works_without_it(model: Model, tmp_path: Path) -> None:
    calibration = model.contents.calibration
    assert calibration is not None
    four = {name: getattr(calibration.natural, name)[:4] for name in ("features", "means", "scales", "weights")}
    natural = replace(calibration.natural, **four)
    replace(model.contents, calibration=DriftCalibration(200, natural, natural), verifier_ND=None).save(tmp_path)
    assert "verifier_ND" not in load_file(tmp_path / "drift.safetensors")
    older = Model(Contents.load(tmp_path))
    # the flat calibration gives every history the same odds
    assert older.drift(HISTORY).p_drift == pytest.approx(model.drift(HISTORY).p_drift)
    ((verdict, _),) = older.follow_drift([HISTORY], [None])
    assert verdict.p_drift == pytest.approx(older.drift(HISTORY).p_drift)


def test_a_bundle_without_a_drift_part(base: Path, tmp_path: Path) -> None:
    contents_of(config_of(base, tmp_path), drift=False).save(tmp_path)
    assert not (tmp_path / "drift.safetensors").exists()
    loaded = Model(Contents.load(tmp_path))
    answer = loaded.recommend(HISTORY)
    assert answer.drift is None
    assert answer.policy.reason == "drift detection is off: the whole history is read"
    with pytest.raises(BundleError, match="drift.enabled=false"):
        loaded.drift(HISTORY)


def test_a_bundle_that_reads_attributes_of_users(base: Path, tmp_path: Path) -> None:
    contents = contents_of(config_of(base, tmp_path))
    torch.manual_seed(0)
    ranker = build_ranker(contents.config, contents.text_vectors_NT, contents.known_N, attribute_values=3)
    for parameter in ranker.parameters():
        torch.nn.init.normal_(parameter)
    attributes = UserAttributes({"trade": ["nurse", "smith"], "town": ["Ulm"]})
    reading = replace(contents, ranker=adapter_state(ranker), user_attributes=attributes)
    reading.save(tmp_path)
    made, loaded = Model(reading), Model(Contents.load(tmp_path))
    smith = {"trade": "smith", "town": "Ulm"}
    for history in ([], HISTORY):
        assert loaded.score(history, attributes=smith).equals(made.score(history, attributes=smith))
        assert not loaded.score(history, attributes=smith).equals(loaded.score(history))
        assert loaded.score(history, attributes={"trade": "king"}).equals(loaded.score(history))
    plain = RankRequest(HISTORY, drift=DriftVerdict(0.0, None, alarm=False))
    told = replace(plain, attributes=smith)
    first, unlike, again = loaded.recommend_batch([told, plain, told])
    scores = [item.score for item in first.items]
    assert [item.score for item in again.items] == pytest.approx(scores, rel=1e-5)
    assert [item.score for item in unlike.items] != pytest.approx(scores, rel=1e-3)
    (explained,) = explain(loaded, told, [first.items[0].item_id], first.policy)
    assert explained.score == pytest.approx(first.items[0].score, abs=1e-4)
    taste = LookupRequest(item_id="i1", history=(), attributes=smith)
    (known,), (unknown,) = (loaded.lookup.find([asked]) for asked in (taste, replace(taste, attributes={})))
    assert [found.taste for found in known] != [found.taste for found in unknown]
    with pytest.raises(DataError, match=r"\['job'\] are not read; valid: trade, town"):
        loaded.recommend(HISTORY, attributes={"job": "smith"})
    with pytest.raises(DataError, match="are not read; valid: none"):
        Model(contents).recommend(HISTORY, attributes=smith)


def test_a_bundle_with_vectors_of_other_modalities(base: Path, tmp_path: Path) -> None:
    contents = contents_of(config_of(base, tmp_path))
    torch.manual_seed(0)
    images = torch.randn(10, 3)
    ranker = build_ranker(contents.config, contents.text_vectors_NT, contents.known_N, images)
    torch.nn.init.normal_(ranker.items.project.weight)
    seen = replace(contents, ranker=adapter_state(ranker), item_vectors_NV=images)
    seen.save(tmp_path)
    made, loaded = Model(seen), Model(Contents.load(tmp_path))
    assert loaded.score(HISTORY).equals(made.score(HISTORY))
    blind = Model(replace(seen, item_vectors_NV=torch.zeros(10, 3)))
    assert not blind.score(HISTORY).equals(made.score(HISTORY))
    new = {"new": "Crooked Prairie (1955)."}
    assert "new" in {item.item_id for item in loaded.recommend(HISTORY, k=11, new_items=new).items}
