"""The text tower: a language model reads an item's text and a learned read-out position says what the item is.

After HLLM (Chen et al. 2024). Without alignment to collaborative vectors raw language-model vectors are poor item
vectors, hence :class:`TextAligner`.

Shape legend: M texts, T tokens, H hidden width of the language model, D width of a text vector.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from driftline.catalog.text import clean
from driftline.config import TextConfig
from driftline.models.adapters import add_adapter
from driftline.models.backbone import load_backbone

LENGTH_STEP = 16
"""Padded prompts are a multiple of so many tokens long."""


class Tokens(NamedTuple):
    """Right-padded token ids."""

    ids_MT: Tensor
    mask_MT: Tensor

    def to(self, device: torch.device | str) -> "Tokens":
        """The same tokens on another device."""
        return Tokens(self.ids_MT.to(device), self.mask_MT.to(device))


class TextTower(nn.Module):
    """Backbone + adapter + read-out position + projection.

    Parameters
    ----------
    backbone
        A Hugging Face model without its head, already carrying its adapter.
    dim
        D.
    temperature
        Of the contrastive alignment.
    """

    def __init__(self, backbone: nn.Module, dim: int, temperature: float) -> None:
        super().__init__()
        hidden: int = backbone.config.hidden_size  # type: ignore[union-attr, assignment]
        self.backbone = backbone
        self.readout_H = nn.Parameter(torch.randn(hidden) * 0.02)
        self.norm = nn.LayerNorm(hidden)
        self.norm_mean = nn.LayerNorm(hidden)
        self.project = nn.Linear(hidden, dim, bias=False)
        self.temperature = temperature

    @classmethod
    def build(
        cls,
        base: str | Path,
        config: TextConfig,
        dim: int,
        gradient_checkpointing: bool = False,
        dtype: torch.dtype = torch.float32,
        four_bit: bool = False,
    ) -> "TextTower":
        """Load the base (:func:`~driftline.models.backbone.load_backbone`), cut it, and add the adapter."""
        backbone = load_backbone(base, config.layers, gradient_checkpointing, dtype, four_bit)
        return cls(add_adapter(backbone, config.adapter), dim, config.temperature)

    def forward(self, tokens: Tokens) -> Tensor:
        """Unit-length text vectors: ``vectors_MD``."""
        embed: Any = self.backbone.get_input_embeddings()  # type: ignore[operator]
        embeddings_MTH = embed(tokens.ids_MT)
        M, T, H = embeddings_MTH.shape
        rows, last_M = torch.arange(M, device=embeddings_MTH.device), tokens.mask_MT.sum(dim=1)
        extended = torch.cat([embeddings_MTH, embeddings_MTH.new_zeros(M, 1, H)], dim=1)
        at_readout = torch.zeros(M, T + 1, dtype=torch.bool, device=extended.device)
        at_readout[rows, last_M] = True
        extended = torch.where(at_readout.unsqueeze(-1), self.readout_H.to(extended.dtype), extended)
        mask = torch.cat([tokens.mask_MT, tokens.mask_MT.new_zeros(M, 1)], dim=1).masked_fill(at_readout, 1)
        hidden = self.backbone(inputs_embeds=extended, attention_mask=mask, use_cache=False).last_hidden_state
        hidden = hidden.to(self.readout_H.dtype)  # of a backbone in a lower precision than the rest
        # The read-out starts as noise; the mean of the tokens gives it something to correct from the first step.
        mean_MH = (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        vectors_MD = self.project(self.norm(hidden[rows, last_M]) + self.norm_mean(mean_MH))
        return nn.functional.normalize(vectors_MD, dim=-1)


class TextAligner(nn.Module):
    """What is trained in the text stage: the tower, and a linear map of the collaborative factors it is aligned to.

    Parameters
    ----------
    tower
        The text tower.
    factors_NF
        Collaborative factors of all items (:func:`~driftline.models.collaborative.item_factors`).
    eligible_N
        bool: items whose factor is trustworthy; the others are no negatives.
    """

    factors_NF: Tensor
    eligible_N: Tensor

    def __init__(self, tower: TextTower, factors_NF: Tensor, eligible_N: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.map = nn.Linear(factors_NF.shape[1], tower.project.out_features, bias=False)
        self.register_buffer("factors_NF", factors_NF, persistent=False)
        self.register_buffer("eligible_N", eligible_N, persistent=False)

    def similarities(self, tokens: Tokens) -> Tensor:
        """Cosine of each text with each item's mapped factor: ``cosine_MN``."""
        factors_NF = self.factors_NF.to(self.map.weight.dtype)  # ZeRO-3 casts parameters and leaves buffers
        cosine_MN: Tensor = self.tower(tokens) @ nn.functional.normalize(self.map(factors_NF), dim=-1).T
        return cosine_MN

    def forward(self, tokens: Tokens, items_M: Tensor) -> Tensor:
        """InfoNCE with every eligible item as a negative (van den Oord et al. 2018)."""
        logits_MN = self.similarities(tokens) / self.tower.temperature
        return nn.functional.cross_entropy(logits_MN.masked_fill(~self.eligible_N, -torch.inf), items_M)


class Tokenizer:
    """Texts, cleaned as those of the catalogue are, to right-padded token ids, truncated at ``max_tokens``."""

    def __init__(self, base: str | Path, max_tokens: int) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(base)
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._max_tokens = max_tokens

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenise; an empty text becomes one padding position that only the read-out looks past."""
        encoded = self._tokenizer(
            [clean(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        return Tokens(encoded["input_ids"].long(), encoded["attention_mask"].long())

    def ids(self, text: str) -> list[int]:
        """Token ids of a piece of text as it stands: not cleaned, not cut, without special tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def pad(self, rows: Sequence[list[int]]) -> Tokens:
        """Rows of token ids as one batch; lengths are rounded up, so that kernels meet few shapes."""
        length = -(-max(map(len, rows)) // LENGTH_STEP) * LENGTH_STEP
        ids_MT = torch.full((len(rows), length), int(self._tokenizer.pad_token_id))
        mask_MT = torch.zeros_like(ids_MT)
        for number, row in enumerate(rows):
            ids_MT[number, : len(row)] = torch.tensor(row)
            mask_MT[number, : len(row)] = 1
        return Tokens(ids_MT, mask_MT)

    def head(self, text: str, max_tokens: int) -> str:
        """The first ``max_tokens`` tokens of a text, cleaned, as text."""
        text = clean(text)
        spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(spans) <= max_tokens else text[: spans[max_tokens - 1][1]]


class TextEncoder:
    """A tower with its tokenizer and a bounded cache by text hash: what serving and training call, from any thread.

    Parameters
    ----------
    tower, tokenizer
        The trained tower and the tokenizer of its base.
    cache_texts
        Vectors kept; those that were asked for longest ago leave first.
    """

    def __init__(self, tower: TextTower, tokenizer: Tokenizer, cache_texts: int = 100_000) -> None:
        self.tower = tower.eval()
        self.tokenizer = tokenizer
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self._cache_texts = cache_texts
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], batch_texts: int = 64) -> Tensor:
        """Vectors of texts in the given order: ``vectors_MD`` on CPU. Each distinct text is read once."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
        with self._lock:
            found = {key: self._cache[key] for key in keys if key in self._cache}
            for key in found:
                self._cache.move_to_end(key)
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        for chunk in by_length(list(new.items()), batch_texts):
            with torch.no_grad():
                device = self.tower.readout_H.device
                vectors = self.tower(self.tokenizer([text for _, text in chunk]).to(device)).float().cpu()
            # a copy of each row, or one row of the cache would keep the whole chunk alive
            found.update((key, vector.clone()) for (key, _), vector in zip(chunk, vectors, strict=True))
        with self._lock:
            self._cache.update((key, found[key]) for key in new)
            while len(self._cache) > self._cache_texts:
                self._cache.popitem(last=False)
        return torch.stack([found[key] for key in keys]) if keys else torch.empty(0, self.tower.project.out_features)


def by_length(items: list[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    """Chunks of (key, text) pairs of like text length, so that little padding is read."""
    items = sorted(items, key=lambda item: len(item[1]))
    for start in range(0, len(items), size):
        yield items[start : start + size]
