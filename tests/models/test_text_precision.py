"""The text tower in lower precisions, on a tiny random Llama."""

from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from torch import nn

from driftline.config import AdapterConfig, TextConfig
from driftline.errors import ConfigError
from driftline.models.text_precision import Int8Linear, TextPrecision, check_text_precision, in_precision
from driftline.models.text_tower import TextEncoder, TextTower, Tokenizer
from tests.tiny import write_base

TEXTS = ["Dusty Ranch (1950). Genres: Western.", "卧虎藏龙 (2000)", "Orbit", "", "Tender Letter"]
KINDS = ["lora", "ia3", "prefix", "full"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def vectors(base: Path, kind: str, precision: TextPrecision) -> torch.Tensor:
    """Of a tower whose adapter does something."""
    torch.manual_seed(0)
    tower = TextTower.build(base, TextConfig(layers=2, adapter=AdapterConfig(kind=kind, rank=2)), 6)  # type: ignore[arg-type]
    for name, parameter in tower.named_parameters():
        if "lora_B" in name or "ia3" in name:
            nn.init.normal_(parameter, mean=1.0 if "ia3" in name else 0.0, std=0.3)
    return TextEncoder(in_precision(tower, precision), Tokenizer(base, max_tokens=48)).encode(TEXTS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_vectors_are_close_to_those_of_fp32(base: Path, kind: str, precision: TextPrecision) -> None:
    exact, found = vectors(base, kind, "fp32"), vectors(base, kind, precision)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(TEXTS)))
    assert not torch.equal(found, exact)
    assert (found * exact).sum(dim=1).min() > 0.99


def test_fp32_is_the_tower_itself(base: Path) -> None:
    tower = TextTower.build(base, TextConfig(layers=1, adapter=AdapterConfig(rank=2)), 6)
    backbone, before = tower.backbone, {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    assert in_precision(tower, "fp32") is tower
    assert tower.backbone is backbone
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.state_dict().items())


@torch.no_grad()
def test_int8_by_hand() -> None:
    """Weights 127 and -127 are stored as they are; an input row is divided by its largest value / 127 and rounded.

    (1, 0.5) becomes (127, 64): (127 - 64) 127 / 127 = 63, not 63.5. A large row beside it changes nothing.
    """
    linear = nn.Linear(2, 1)
    linear.weight.copy_(torch.tensor([[127.0, -127.0]]))
    linear.bias.fill_(0.25)
    quantised = Int8Linear(linear)
    assert quantised.weight_IO.tolist() == [[127], [-127]]
    found = quantised(torch.tensor([[[1.0, 0.5], [1000.0, 0.0], [0.0, 0.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[63.25], [127000.25], [0.25]]]))


def test_int8_needs_linear_layers(base: Path) -> None:
    tower = TextTower.build(base, TextConfig(layers=1, adapter=AdapterConfig(kind="full")), 6)
    tower.backbone = nn.Sequential(nn.LayerNorm(4))
    with pytest.raises(ConfigError, match=r"int8: the language model has no torch.nn.Linear"):
        in_precision(tower, "int8")


def test_a_cpu_without_the_instructions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    old = MappingProxyType({"architecture": "x86_64", "avx2": True, "avx512_vnni": False})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: old)
    check_text_precision("fp32")
    with pytest.raises(
        ConfigError, match=r"int8: this CPU \(x86_64\) has neither avx512_vnni nor avx_vnni; choose fp32"
    ):
        check_text_precision("int8")
    with pytest.raises(ConfigError, match=r"bf16: this CPU .* neither amx_bf16 nor avx512_bf16"):
        check_text_precision("bf16")
