"""What is exported gives other tools the same numbers."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import driftline
from driftline.cli import app
from driftline.errors import BundleError
from driftline.models.text_tower import TextTower
from driftline.registry.bundle import open_bundle, write_bundle
from driftline.registry.export import HEAD, export
from driftline.registry.model import Model
from tests.registry.parts import config_of, contents_of, manifest_of

TEXTS = ["Dusty Ranch (1951).", "Silent Orbit (1953). A long way from home", "镖客", ""]
LAYERS = 1


def bundle_with(base: Path, folder: Path, kind: str, **options: Any) -> tuple[Path, TextTower]:
    """A bundle whose adapter does something, and its tower."""
    adapter = {"kind": kind, "rank": 2, **options}
    config = config_of(base, folder, text={"base": str(base), "layers": LAYERS, "adapter": adapter})
    contents = contents_of(config, drift=False)
    torch.manual_seed(3)
    random = {name: tensor + 0.2 * torch.randn_like(tensor) for name, tensor in contents.text.items()}
    contents = replace(contents, text=random)
    place = write_bundle(folder / f"bundle-{kind}", contents.save, lambda: manifest_of(f"b-{kind}"))
    return place, Model(contents).text_encoder.tower


def vectors_by_readme(folder: Path) -> torch.Tensor:
    """Run the code that the exported README shows."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    scope: dict[str, Any] = {}
    exec(code.group(1), scope)
    item_vectors: Callable[[str, list[str]], torch.Tensor] = scope["item_vectors"]
    return item_vectors(str(folder), TEXTS)


def expected_vectors(tower: TextTower, base: Path) -> torch.Tensor:
    from driftline.models.text_tower import Tokenizer

    with torch.no_grad():
        return tower(Tokenizer(base, 48)(TEXTS))


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3", "full"])
def test_a_merged_folder_loads_in_plain_transformers(base: Path, tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    bundle, tower = bundle_with(base, tmp_path, kind)
    target = tmp_path / "hf"
    assert export(bundle, "hf", target) == str(target)
    model = AutoModelForCausalLM.from_pretrained(target).eval()
    assert model.config.num_hidden_layers == LAYERS
    ids = AutoTokenizer.from_pretrained(target)(TEXTS[0], return_tensors="pt")["input_ids"]
    head = AutoModelForCausalLM.from_pretrained(base).lm_head  # untied, so training does not touch it
    with torch.no_grad():
        expected = head(tower.backbone(input_ids=ids).last_hidden_state)
        plain = AutoModelForCausalLM.from_pretrained(base, num_hidden_layers=LAYERS)(ids).logits
        assert not torch.allclose(expected, plain, atol=1e-3)
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vectors_by_readme(target), expected_vectors(tower, base), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora", "ia3", "prefix"])
def test_an_adapter_folder_loads_with_peft(base: Path, tmp_path: Path, kind: str) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    bundle, tower = bundle_with(base, tmp_path, kind)
    target = tmp_path / "peft"
    export(bundle, "peft", target)
    assert (target / "adapter_config.json").is_file()
    loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(base, num_hidden_layers=LAYERS), target).eval()
    ids = torch.tensor([[5, 9, 11]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).last_hidden_state, tower.backbone(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(vectors_by_readme(target), expected_vectors(tower, base), atol=1e-5, rtol=1e-5)
    names = {path.name for path in target.iterdir()}
    assert {"adapter_model.safetensors", HEAD, "README.md", "tokenizer.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    with safe_open(target / HEAD, "pt") as head:
        assert set(head.keys()) == {
            "readout_H", "norm.weight", "norm.bias", "norm_mean.weight", "norm_mean.bias", "project.weight",
        }  # fmt: skip


def test_what_has_no_such_form_is_refused_and_says_which_has(base: Path, tmp_path: Path) -> None:
    prefix, _ = bundle_with(base, tmp_path, "prefix")
    with pytest.raises(BundleError, match="prefix tuning cannot be merged.*use --format peft"):
        export(prefix, "hf", tmp_path / "out")
    full, _ = bundle_with(base, tmp_path, "full")
    with pytest.raises(BundleError, match="there is no adapter; use --format hf"):
        export(full, "peft", tmp_path / "out")
    with pytest.raises(BundleError, match="only --format bundle can be written to a URI"):
        export(full, "hf", "s3://bucket/model")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def bundle(base: Path, tmp_path: Path) -> Path:
    return bundle_with(base, tmp_path, "lora")[0]


def test_a_copied_bundle_answers_as_the_original(bundle: Path, tmp_path: Path) -> None:
    for target in (str(tmp_path / "copies" / "b"), (tmp_path / "store" / "b").as_uri()):
        export(bundle, "bundle", target)
        copy = Path(target.removeprefix("file://"))
        assert open_bundle(copy)[1] == open_bundle(bundle)[1]
        assert driftline.load(copy).recommend(["i0"]).items == driftline.load(bundle).recommend(["i0"]).items
        with pytest.raises(BundleError, match="never overwritten"):
            export(bundle, "bundle", target)


def test_nothing_is_overwritten_and_an_empty_directory_is_nothing(bundle: Path, tmp_path: Path) -> None:
    taken, empty = tmp_path / "taken", tmp_path / "empty"
    taken.mkdir()
    empty.mkdir()
    (taken / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BundleError, match="taken exists already and is never overwritten"):
        export(bundle, "peft", taken)
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    export(bundle, "peft", empty)
    assert (empty / "adapter_model.safetensors").is_file()


def test_a_corrupt_bundle_is_not_exported(bundle: Path, tmp_path: Path) -> None:
    (bundle / "text.safetensors").write_bytes(b"broken")
    for form in ("hf", "peft", "bundle"):
        with pytest.raises(BundleError, match="corrupt bundle"):
            export(bundle, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_base_is_refused(base: Path, tmp_path: Path) -> None:
    _, tower = bundle_with(base, tmp_path, "lora")
    assert tower is not None
    contents = Model(contents_of(config_of(base, tmp_path), drift=False)).contents
    manifest = replace(manifest_of("b2"), base_sha256="0" * 64)
    place = write_bundle(tmp_path / "b2", contents.save, lambda: manifest)
    with pytest.raises(BundleError, match="not the base that this bundle was trained on"):
        export(place, "hf", tmp_path / "out")


def test_the_command(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    result = CliRunner().invoke(app, ["export", "--bundle", str(bundle), "--format", "peft", "--out", str(target)])
    assert result.exit_code == 0, result.output
    assert str(target) in result.stdout
    assert (target / "adapter_model.safetensors").is_file()
    wrong = CliRunner().invoke(app, ["export", "--bundle", str(bundle), "--format", "onnx", "--out", str(target)])
    assert wrong.exit_code == 2
    assert "onnx" in wrong.output
