"""Next-token prediction with the text tower's backbone: what domain adaptation trains.

Shape legend: M texts, T tokens, H hidden width, V vocabulary.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from driftline.errors import ConfigError
from driftline.models.adapters import is_encoder
from driftline.models.backbone import base_config, quiet
from driftline.models.text_tower import Tokens


class LanguageModel(nn.Module):
    """A backbone without a head, and the head of its base, frozen or tied to the embeddings.

    The head is applied as it is; architectures that scale or cap their logits are refused by :func:`load_head`.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def surprise(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of all tokens but each text's first, in nats, and how many tokens that is."""
        output = self.backbone(input_ids=tokens.ids_MT, attention_mask=tokens.mask_MT, use_cache=False)
        logits_MTV = self.head(output.last_hidden_state[:, :-1]).float()
        real_MT = tokens.mask_MT[:, 1:].bool()
        targets_MT = tokens.ids_MT[:, 1:].masked_fill(~real_MT, -100)
        total = nn.functional.cross_entropy(logits_MTV.flatten(0, 1), targets_MT.flatten(), reduction="sum")
        return total, real_MT.sum()

    def forward(self, tokens: Tokens) -> Tensor:
        """Mean negative log-likelihood of a token."""
        total, count = self.surprise(tokens)
        return total / count.clamp(min=1)


def load_head(
    base: str | Path,
    backbone: nn.Module,
    dtype: torch.dtype,
    wanted_by: str = "text.domain.epochs",
    way_out: str = "set it to 0",
) -> nn.Linear:
    """The base's map from hidden states to the vocabulary: the backbone's own embeddings where the two are tied.

    Parameters
    ----------
    wanted_by, way_out
        The setting that needs the head, and what to do about it, for messages.

    Raises
    ------
    ConfigError
        If the base is no causal language model, or does more to its logits than a linear map.
    """
    from transformers import AutoModelForCausalLM

    config = base_config(base, 1)
    if is_encoder(config):
        raise ConfigError(
            [f"`{wanted_by}`: {base} ({config.model_type}) predicts no next token; {way_out} for an encoder"]
        )
    more = [
        name for name in ("final_logit_softcapping", "logits_scaling", "logit_scale") if getattr(config, name, None)
    ]
    if more:
        raise ConfigError([f"`{wanted_by}`: the head of {base} uses {more}, which is not supported; {way_out}"])
    embedding: Any = backbone.get_input_embeddings()  # type: ignore[operator]
    head = nn.Linear(embedding.embedding_dim, embedding.num_embeddings, bias=False, device="meta")
    if config.tie_word_embeddings:
        head.weight = embedding.weight
        return head
    with quiet():  # one layer only: the rest of the model is here already
        whole = AutoModelForCausalLM.from_pretrained(base, config=config, dtype=dtype)
    head.weight = whole.get_output_embeddings().weight.requires_grad_(False)
    return head


def backbone_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a :class:`LanguageModel`'s trained weights those of its backbone, by the backbone's own names."""
    prefix = "backbone."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
