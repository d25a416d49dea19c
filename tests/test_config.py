"""Configuration: every fault at once and with a way out, overrides, round trip, the shipped files."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from driftline.config import Config, load_config, parse_config
from driftline.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted(set((ROOT / "jobs/configs").glob("*.yaml")) - set((ROOT / "jobs/configs").glob("sweep-*")))


def sample(**sections: Any) -> dict[str, Any]:
    """The smallest tree that is valid, and more sections."""
    return {"data": {"sample": "ml-100k"}, **sections}


def adapter(kind: str, domain: dict[str, Any] | None = None, **deepspeed: Any) -> dict[str, Any]:
    """The sample with a kind of adapter, domain adaptation and DeepSpeed options."""
    return sample(text={"adapter": {"kind": kind}, "domain": domain or {}}, training={"deepspeed": deepspeed})


def faults_of(tree: Any, *overrides: str) -> list[str]:
    """What is wrong with a tree."""
    with pytest.raises(ConfigError) as caught:
        parse_config(tree, overrides)
    return caught.value.faults


def test_all_faults_are_told_at_once_each_with_field_value_and_valid_choices() -> None:
    faults = faults_of(
        sample(
            trainig={},
            training={"epocs": 3, "num_workers": "two", "deepspeed": {"zero_stage": 7}},
            encoder={"kind": "rnn"},
            text={"adapter": {"rnk": 2, "rank": 0}},
        ),
        "no-separator",
    )
    assert len(faults) == 8
    told = "\n".join(faults)
    assert (
        "`text.adapter.rnk` = 2: unknown key (did you mean `rank`?); valid keys here: kind, rank, alpha, dropout, "
        in told
    )
    assert "`trainig` = {}: unknown key (did you mean `training`?); valid keys here: name, seed, storage, data" in told
    assert "`training.epocs` = 3: unknown key (did you mean `epochs`?)" in told
    assert "`training.num_workers`: 'two' is neither a whole number" in told
    assert "`training.deepspeed.zero_stage` = 7: Input should be 0, 1, 2 or 3" in told
    assert "`encoder.kind` = 'rnn': Input should be 'gru', 'lstm', 'transformer', 'llm' or 'mean'" in told
    assert "`text.adapter.rank` = 0" in told
    assert "--set 'no-separator': write it as section.key=value" in told


def test_the_message_names_the_source_and_counts_the_faults() -> None:
    with pytest.raises(ConfigError, match=r"^my\.yaml: 2 faults\n  - .*\n  - ") as caught:
        parse_config(sample(x=1, y=2), source="my.yaml")
    assert isinstance(caught.value, ValueError)


def test_an_unknown_key_that_resembles_nothing_gets_no_guess() -> None:
    (fault,) = faults_of(sample(zzz=1))
    assert "did you mean" not in fault
    assert "valid keys here: name, seed, storage" in fault


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        (sample(text=3), "`text` = 3"),
        (sample(encoder=[1]), "`encoder` = [1]"),
        (sample(training=None), "`training` = None"),
        (sample(text={"adapter": {"targets": "q_proj"}}), "`text.adapter.targets`: 'q_proj' is neither"),
        (sample(fusion={"components": ["neural", "x"]}), "`fusion.components.1` = 'x'"),
        (sample(training={"learning_rate": 0}), "`training.learning_rate` = 0"),
        (sample(training={"learning_rate": float("nan")}), "`training.learning_rate` = nan"),
        (sample(drift={"hazard": 1}), "`drift.hazard` = 1"),
        (sample(name="a b"), "`name` = 'a b'"),
        ({"data": {"sample": "ml-1m"}}, "`data.sample` = 'ml-1m'"),
    ],
)
def test_a_wrong_type_or_value_names_its_field(tree: dict[str, Any], field: str) -> None:
    (fault,) = faults_of(tree)
    assert fault.startswith(field)


@pytest.mark.parametrize("tree", [None, [1], "text", 3])
def test_a_document_that_is_no_mapping(tree: Any) -> None:
    (fault,) = faults_of(tree)
    assert "must be a mapping of sections" in fault


@pytest.mark.parametrize(
    ("tree", "way_out"),
    [
        ({"data": {}}, "give exactly one of `sample` (valid: ml-100k) and `interactions`"),
        ({"data": {"sample": "ml-100k", "interactions": "a.csv"}}, "give exactly one of"),
        ({"data": {"interactions": "a.csv", "graph": "a.kg"}}, "`graph` and `links` belong together"),
        (
            {"data": {"sample": "ml-100k", "user_attributes": ["occupation", "userAge", "gender"]}},
            "userAge, gender is protected; leave it out, or set data.allow_protected_attributes=true",
        ),
        ({"data": {"interactions": "a.csv", "user_attributes": ["trade"]}}, "needs data.users, a table with these"),
        (
            {"data": {"sample": "ml-100k", "user_attributes": ["occupation"], "ingest": "ray-data"}},
            "needs data.ingest=memory: ingested histories do not hold them",
        ),
        (sample(storage="runs"), "storage=runs must be an absolute path"),
        (sample(encoder={"dim": 65}), "dim=65 is not a multiple of heads=2"),
        (sample(training={"deepspeed": {"precision": "fp16"}}), "choose fp32 or bf16"),
        (
            {"data": {"sample": "ml-100k", "repeat_consumption": True}},
            "drift.encoder.mask_seen to false",
        ),
        (adapter("qlora", zero_stage=2), "choose lora on CPU"),
        (adapter("adalora", zero_stage=2), "needs training.deepspeed.zero_stage=0 (it is 2)"),
        (adapter("adalora", zero_stage=0, precision="bf16"), "needs training.deepspeed.precision=fp32 (it is bf16)"),
        (adapter("adalora", {"epochs": 1}, zero_stage=0), "set text.domain.epochs=0 (it is 1), or choose lora"),
        (
            sample(drift={"enabled": False, "judge": {"enabled": True}}),
            "drift.judge.enabled=true needs drift.enabled=true",
        ),
        (
            sample(drift={"judge": {"enabled": True, "adapter": {"kind": "qlora"}}}),
            "drift.judge.adapter.kind=qlora needs training.use_gpu=true",
        ),
        (adapter("prefix", gradient_checkpointing=True), "the prefix is a key-value cache; switch one of them off"),
    ],
)
def test_an_impossible_combination_says_what_to_change(tree: dict[str, Any], way_out: str) -> None:
    (fault,) = faults_of(tree)
    assert way_out in fault


def test_protected_attributes_can_be_allowed_and_words_that_hold_one_are_none() -> None:
    allowed = {"user_attributes": ["age"], "allow_protected_attributes": True}
    assert parse_config({"data": {"sample": "ml-100k", **allowed}}).data.user_attributes == ("age",)
    assert parse_config({"data": {"sample": "ml-100k", "user_attributes": ["page"]}}).data.user_attributes == ("page",)


def test_overrides_are_read_as_yaml() -> None:
    config = parse_config(
        sample(training={"epochs": 9}),
        [
            "training.epochs=2",
            "training.learning_rate=1e-3",
            "training.use_gpu=true",
            "text.layers=null",
            "text.base=/models/a=b",
            "text.adapter={rank: 3}",
            "text.adapter.targets=[q_proj, k_proj]",
            "encoder.dropout=.5",
            "storage=/tmp/somewhere",
        ],
    )
    assert config.training.epochs == 2
    assert config.training.learning_rate == 0.001
    assert config.training.use_gpu is True
    assert config.text.layers is None
    assert config.text.base == "/models/a=b"
    assert (config.text.adapter.rank, config.text.adapter.targets) == (3, ("q_proj", "k_proj"))
    assert config.encoder.dropout == 0.5
    assert config.storage == Path("/tmp/somewhere")


def test_the_last_override_of_a_key_wins() -> None:
    assert parse_config(sample(), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.epochs", "write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("name.x=2", "`name` is a value, not a section"),
        ("training.epochs=two", "`training.epochs` = 'two'"),
        ("training.epochs=1.5", "`training.epochs` = 1.5"),
        ("trainig.epochs=1", "did you mean `training`?"),
    ],
)
def test_a_bad_override_is_a_fault(override: str, sentence: str) -> None:
    (fault,) = faults_of(sample(name="n"), override)
    assert sentence in fault


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_round_trips(path: Path, tmp_path: Path) -> None:
    config = load_config(path, ["storage=/tmp/elsewhere"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(copy) == config


def test_changed_values_round_trip() -> None:
    tree = sample(
        storage="/tmp/x", text={"layers": None, "adapter": {"targets": ["a", "b"]}}, training={"learning_rate": 1e-7}
    )
    config = parse_config(tree)
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_config(sample()).seed = 3


def test_storage_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    assert parse_config(sample()).storage == tmp_path
    monkeypatch.delenv("DRIFTLINE_HOME")
    assert parse_config(sample()).storage == Path.home() / ".driftline"


def test_a_missing_file_names_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match=r"no such file: .*demmo\.yaml; there are: .*demo\.yaml"):
        load_config(ROOT / "jobs/configs/demmo.yaml")


def test_a_file_that_is_not_yaml(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: {", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a YAML document"):
        load_config(broken)
    broken.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="not a YAML document"):
        load_config(broken)
    broken.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="must be a mapping of sections"):
        load_config(broken)


def test_reading_a_configuration_imports_nothing_heavy() -> None:
    code = (
        "import sys, driftline.config as c; c.load_config('jobs/configs/demo.yaml'); "
        "print(sorted({'torch', 'ray', 'pandas', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
