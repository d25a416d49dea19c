"""The text tower on a tiny random Llama."""

from pathlib import Path

import pytest
import torch

from driftline.config import AdapterConfig, TextConfig
from driftline.errors import ConfigError
from driftline.models.adapters import adapter_state, load_adapter_state
from driftline.models.backbone import load_backbone
from driftline.models.text_tower import (
    TextAligner,
    TextEncoder,
    TextTower,
    Tokenizer,
    Tokens,
)
from tests.tiny import write_base

DIM = 6
TEXTS = ["Dusty Ranch (1950). Genres: Western.", "卧虎藏龙 (2000)", "Orbit", "Ranch", "🎬 Ωmega Дом"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Tokenizer:
    return Tokenizer(base, max_tokens=48)


def build(base: Path, seed: int = 0) -> TextTower:
    torch.manual_seed(seed)
    return TextTower.build(base, TextConfig(layers=2, adapter=AdapterConfig(rank=2)), DIM).eval()


@pytest.fixture(scope="module")
def tower(base: Path) -> TextTower:
    return build(base)


@pytest.fixture
def encoder(tower: TextTower, tokenizer: Tokenizer) -> TextEncoder:
    return TextEncoder(tower, tokenizer)


def test_vectors_have_unit_length(encoder: TextEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (5, DIM)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))


@torch.no_grad()
@pytest.mark.parametrize("text", [*TEXTS, ""])
def test_a_text_alone_equals_the_text_in_a_padded_batch(tower: TextTower, tokenizer: Tokenizer, text: str) -> None:
    long = "Crooked Canyon 9 (1977). Genres: Western Action. " * 3
    alone, padded = tower(tokenizer([text]))[0], tower(tokenizer([long, text]))[1]
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_read_out_reads_all_tokens_up_to_the_last(tower: TextTower) -> None:
    """A change of any real token moves the vector; a change of a padded one does not."""
    ids, mask = torch.tensor([[5, 6, 7, 8, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    before = tower(Tokens(ids, mask))
    for place in range(6):
        changed = ids.clone()
        changed[0, place] = 99
        moved = float((tower(Tokens(changed, mask)) - before).abs().max())
        assert (moved > 1e-4) == (place < 4), place


def test_the_read_out_sits_right_after_the_last_token(base: Path) -> None:
    """The backbone is handed token, token, read-out, padding, with a mask that ends at the read-out."""
    tower = build(base)
    handed: dict[str, torch.Tensor] = {}
    tower.backbone.register_forward_pre_hook(lambda _, args, kwargs: handed.update(kwargs), with_kwargs=True)
    with torch.no_grad():
        tower(Tokens(torch.tensor([[5, 6, 0], [7, 8, 9]]), torch.tensor([[1, 1, 0], [1, 1, 1]])))
    assert handed["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    embed = tower.backbone.get_input_embeddings()  # type: ignore[operator]
    torch.testing.assert_close(handed["inputs_embeds"][0, :2], embed(torch.tensor([5, 6])))
    torch.testing.assert_close(handed["inputs_embeds"][0, 2], tower.readout_H)
    torch.testing.assert_close(handed["inputs_embeds"][1, 3], tower.readout_H)


def test_only_adapter_and_read_out_are_trained(tower: TextTower) -> None:
    trainable = {name for name, parameter in tower.named_parameters() if parameter.requires_grad}
    assert {name for name in trainable if "lora_" not in name} == {
        *("readout_H", "project.weight", "norm.weight", "norm.bias", "norm_mean.weight", "norm_mean.bias"),
    }
    assert len([name for name in trainable if "lora_" in name]) == 2 * 2 * 2  # layers, targets, A and B


def test_every_trained_parameter_gets_a_gradient(base: Path, tokenizer: Tokenizer) -> None:
    tower = build(base).train()
    tower(tokenizer(TEXTS))[:, 0].sum().backward()
    trainable = [(name, parameter) for name, parameter in tower.named_parameters() if parameter.requires_grad]
    assert [name for name, parameter in trainable if parameter.grad is None] == []


def test_two_towers_with_the_same_state_read_alike(base: Path, tower: TextTower, tokenizer: Tokenizer) -> None:
    other = build(base, seed=1)
    tokens = tokenizer(TEXTS)
    with torch.no_grad():
        assert not torch.allclose(other(tokens), tower(tokens))
        load_adapter_state(other, adapter_state(tower))
        torch.testing.assert_close(other(tokens), tower(tokens))


def test_order_and_duplicates(encoder: TextEncoder) -> None:
    vectors = encoder.encode(["Orbit", "Ranch", "Orbit", "Dusty Ranch Ranch Ranch"], batch_texts=2)
    assert torch.equal(vectors[0], vectors[2])
    backwards = TextEncoder(encoder.tower, encoder.tokenizer).encode(["Dusty Ranch Ranch Ranch", "Ranch", "Orbit"])
    torch.testing.assert_close(backwards.flip(0), vectors[[2, 1, 3]])


def test_the_cache_keeps_the_newest_texts(tower: TextTower, tokenizer: Tokenizer) -> None:
    read: list[int] = []
    tower_calls = tower.register_forward_pre_hook(lambda _, args: read.append(len(args[0].ids_MT)))
    encoder = TextEncoder(tower, tokenizer, cache_texts=2)
    first = encoder.encode(["a", "b"])
    assert torch.equal(encoder.encode(["b", "a"]).flip(0), first)
    assert read == [2]  # both were cached
    many = encoder.encode(["a", "c", "d"])  # more than the cache holds: all come back, the oldest leave
    assert read == [2, 2]
    assert torch.equal(many[0], first[0])
    encoder.encode(["c", "d"])
    assert read == [2, 2]
    encoder.encode(["a"])
    assert read == [2, 2, 1]
    tower_calls.remove()


def test_no_text_gives_no_vector(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, DIM)


def test_an_empty_text_has_a_vector_of_its_own(encoder: TextEncoder) -> None:
    empty, ranch = encoder.encode(["", "Ranch"])
    assert torch.isfinite(empty).all()
    assert not torch.allclose(empty, ranch)


def test_text_in_other_scripts_is_told_apart(encoder: TextEncoder) -> None:
    vectors = encoder.encode(["卧虎藏龙", "花样年华", "Дом"])
    assert (vectors @ vectors.T - torch.eye(3)).max() < 0.9999


def test_texts_are_cleaned_as_those_of_the_catalogue_are(encoder: TextEncoder) -> None:
    """White space, control characters, and half a surrogate pair, which JSON can carry."""
    clean, *others = encoder.encode(["Dusty Ranch", " Dusty\n Ranch ", "Dusty\x00 Ranch", "Dusty \ud83c Ranch"])
    for other in others:
        torch.testing.assert_close(other, clean)


def test_texts_are_truncated(base: Path) -> None:
    tokens = Tokenizer(base, max_tokens=5)(["Ranch " * 50, "Ranch"])
    assert tokens.ids_MT.shape == (2, 5)
    assert tokens.mask_MT.sum(dim=1).tolist()[0] == 5


def test_tokens_are_padded_on_the_right(tokenizer: Tokenizer) -> None:
    tokens = tokenizer(["Orbit", "Ranch Ranch Ranch Ranch"])
    assert tokens.mask_MT[0].tolist() == sorted(tokens.mask_MT[0].tolist(), reverse=True)
    assert tokens.mask_MT[0].sum() < tokens.mask_MT[1].sum() == tokens.ids_MT.shape[1]


def test_the_first_layers_only(base: Path) -> None:
    cut, whole = load_backbone(base, 1), load_backbone(base, None)
    assert (len(cut.layers), len(whole.layers)) == (1, 2)  # type: ignore[arg-type]
    torch.testing.assert_close(cut.state_dict()["layers.0.mlp.up_proj.weight"], whole.layers[0].mlp.up_proj.weight)  # type: ignore[index, union-attr]


def test_a_base_that_cannot_be_used_is_a_configuration_error(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"text.layers` = 3: .* has 2 layers"):
        load_backbone(base, 3)
    with pytest.raises(ConfigError, match=r"`drift.judge.layers` = 3: .* has 2 layers"):
        load_backbone(base, 3, section="drift.judge")
    with pytest.raises(ConfigError, match=r"no model directory .*nowhere; run `driftline fetch`"):
        load_backbone(tmp_path / "nowhere", 1)


def test_alignment_pulls_each_text_to_its_factor(base: Path, tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    texts = ["Dusty Ranch", "Silent Orbit", "Tender Letter", "Burning Comet"]
    factors = torch.nn.functional.normalize(torch.randn(4, 5), dim=-1)
    aligner = TextAligner(build(base), factors, torch.ones(4, dtype=torch.bool))
    optimiser = torch.optim.Adam([p for p in aligner.parameters() if p.requires_grad], lr=0.01)
    for _ in range(40):
        optimiser.zero_grad()
        aligner(tokenizer(texts), torch.arange(4)).backward()
        optimiser.step()
    with torch.no_grad():
        assert aligner.similarities(tokenizer(texts)).argmax(dim=1).tolist() == [0, 1, 2, 3]


@torch.no_grad()
def test_items_that_are_not_eligible_are_no_negatives(tower: TextTower, tokenizer: Tokenizer) -> None:
    factors = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    aligner = TextAligner(tower, factors, torch.tensor([True, True, False]))
    tokens = tokenizer(["Ranch"])
    logits = aligner.similarities(tokens)[0] / tower.temperature
    expected = torch.logsumexp(logits[:2], dim=0) - logits[1]
    torch.testing.assert_close(aligner(tokens, torch.tensor([1])), expected)
