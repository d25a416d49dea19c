"""The language model that domain adaptation trains: its head, its loss, its batches, what it hands to the tower."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from driftline.config import AdapterConfig
from driftline.errors import ConfigError
from driftline.models.adapters import adapter_state, add_adapter, load_adapter_state
from driftline.models.backbone import load_backbone
from driftline.models.language_model import LanguageModel, backbone_weights, load_head
from driftline.models.text_tower import Tokenizer, Tokens
from tests.tiny import write_base

TEXTS = ["Dusty Ranch (1950). Genres: Western.", "Orbit", "Ranch", "Silent Comet 3 (1977)"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tied_base(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tied")
    config = AutoConfig.from_pretrained(base)
    config.tie_word_embeddings = True
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def build(base: Path, kind: str = "lora") -> LanguageModel:
    backbone = add_adapter(load_backbone(base, None), AdapterConfig(kind=kind, rank=2))
    return LanguageModel(backbone, load_head(base, backbone, torch.float32))


@pytest.mark.parametrize("which", ["base", "tied_base"])
def test_the_loss_is_that_of_the_base_as_a_causal_language_model(
    which: str, base: Path, request: pytest.FixtureRequest
) -> None:
    """A fresh adapter changes nothing, so ``AutoModelForCausalLM`` must say the same of every text alone."""
    from transformers import AutoModelForCausalLM

    folder = request.getfixturevalue(which)
    whole, model = AutoModelForCausalLM.from_pretrained(folder), build(folder)
    tokenizer = Tokenizer(base, 48)
    total, count = 0.0, 0
    with torch.no_grad():
        for text in TEXTS:
            ids = tokenizer([text]).ids_MT
            if ids.shape[1] > 1:
                total += float(whole(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
                count += ids.shape[1] - 1
        assert float(model(tokenizer(TEXTS))) == pytest.approx(total / count, rel=1e-5)


def test_a_text_of_one_token_has_nothing_to_predict(base: Path) -> None:
    loss = build(base)(Tokens(torch.tensor([[5]]), torch.tensor([[1]])))
    loss.backward()
    assert loss.item() == 0


def test_the_head_is_never_trained_by_itself(base: Path, tied_base: Path) -> None:
    apart, tied = build(base, "full"), build(tied_base, "full")
    assert not apart.head.weight.requires_grad
    assert tied.head.weight is tied.backbone.get_input_embeddings().weight  # type: ignore[operator]
    for model in (apart, tied):
        assert all(name.startswith("backbone.") for name in adapter_state(model))


def test_alignment_starts_where_domain_training_ended(base: Path) -> None:
    trained, fresh = build(base), build(base)
    with torch.no_grad():
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    load_adapter_state(fresh.backbone, backbone_weights(adapter_state(trained)))
    tokens = Tokenizer(base, 48)(TEXTS)
    with torch.no_grad():
        assert torch.equal(fresh(tokens), trained(tokens))


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"text.domain.epochs.*\(bert\) predicts no next token; set it to 0"):
        load_head(tmp_path, nn.Module(), torch.float32)


def test_a_head_that_caps_its_logits_is_refused(tmp_path: Path) -> None:
    from transformers import Gemma2Config

    Gemma2Config().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"\['final_logit_softcapping'\], which is not supported"):
        load_head(tmp_path, nn.Module(), torch.float32)


def test_training_lowers_perplexity(base: Path) -> None:
    torch.manual_seed(0)
    model, tokens = build(base), Tokenizer(base, 48)(TEXTS)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    before = math.exp(model(tokens).item())
    for _ in range(20):
        optimiser.zero_grad()
        model(tokens).backward()
        optimiser.step()
    assert math.exp(model(tokens).item()) < 0.8 * before
