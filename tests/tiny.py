"""A base model, a data set and a configuration so small that a whole training job takes seconds.

The data set has 150 users and 390 items of three tastes (western, space, romance). Every user has one taste: four of
five events are items of it. Each user takes an item once, so the longest histories are long enough for drift streams of
both tracks.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftline.config import Config, load_config

ROOT = Path(__file__).resolve().parent.parent
SEED = 20

USERS = 150
MIN_EVENTS, MAX_EVENTS = 104, 124
OWN_TASTE = 0.8
GENRES = ("Western Action", "Sci-Fi Adventure", "Romance Drama")
"""One pair per taste."""
ADJECTIVES = (("Dusty", "Lonesome", "Crooked"), ("Silent", "Distant", "Burning"), ("Tender", "Secret", "Summer"))
NOUNS = (
    ("Ranch", "Saloon", "Outlaw", "Canyon", "Prairie"),
    ("Orbit", "Comet", "Starship", "Nebula", "Robot"),
    ("Letter", "Garden", "Wedding", "Kiss", "Promise"),
)
ITEMS_PER_TASTE = 130
ITEMS = len(GENRES) * ITEMS_PER_TASTE
DAY_S = 86_400


def write_base(folder: Path) -> Path:
    """A two-layer Llama with random weights and a byte-level BPE tokenizer; returns its directory."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    texts = [f"{_title(item)} (1950). Genres: {genres}." for item in range(ITEMS) for genres in GENRES]
    bpe.train_from_iterator(texts, vocab_size=400, special_tokens=["<s>", "</s>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_data(folder: Path, tastes: int = len(GENRES), own_share: float = OWN_TASTE) -> tuple[Path, Path]:
    """RecBole atomic files; returns those of the interactions and of the items.

    Users have the first ``tastes`` of the three, and items of their own with probability ``own_share``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    taste = np.repeat(np.arange(len(GENRES)), ITEMS_PER_TASTE)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(USERS):
        own = user % tastes
        for item, time in zip(_history(own, taste, rng, own_share), _times(rng), strict=False):
            rows.append(f"u{user}\ti{item}\t{4 if taste[item] == own else 2}\t{time}")
    interactions = folder / "tiny.inter"
    interactions.write_text("\n".join(rows) + "\n", encoding="utf-8")
    table = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    table += [f"i{item}\t{_title(item)}\t{1950 + item % 70}\t{GENRES[taste[item]]}" for item in range(ITEMS)]
    items = folder / "tiny.item"
    items.write_text("\n".join(table) + "\n", encoding="utf-8")
    return interactions, items


def tiny_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """``jobs/configs/tiny.yaml`` over base and data in ``folder``, which are written on the first call."""
    return load_config(ROOT / "jobs/configs/tiny.yaml", [*tiny_overrides(folder), *overrides])


def tiny_overrides(folder: Path) -> list[str]:
    """What ``--set`` takes to run ``jobs/configs/tiny.yaml`` in ``folder``."""
    base, data = folder / "base", folder / "data"
    if not base.is_dir():
        write_base(base)
        write_data(data)
    return [
        f"storage={folder / 'storage'}",
        f"text.base={base}",
        f"data.interactions={data / 'tiny.inter'}",
        f"data.items={data / 'tiny.item'}",
    ]


def _title(item: int) -> str:
    if item == 0:
        return "镖客"
    taste, number = divmod(item, ITEMS_PER_TASTE)
    name = f"{ADJECTIVES[taste][number % 3]} {NOUNS[taste][number // 3 % 5]}"
    return f"{name} {number // 15 + 1}" if number >= 15 else name


def _history(own: int, taste: NDArray[np.int64], rng: np.random.Generator, own_share: float) -> NDArray[np.int64]:
    """Distinct items: mostly of the own taste, the popular ones of each taste more often and earlier."""
    is_own = taste == own
    popularity = 1 / (10 + np.arange(len(taste)) % ITEMS_PER_TASTE)
    weights = np.where(is_own, own_share / popularity[is_own].sum(), (1 - own_share) / popularity[~is_own].sum())
    share = weights * popularity
    return rng.choice(len(taste), size=rng.integers(MIN_EVENTS, MAX_EVENTS + 1), replace=False, p=share / share.sum())


def _times(rng: np.random.Generator) -> NDArray[np.int64]:
    """Seconds: sessions of ten events, days apart; some consecutive events share a timestamp."""
    start = 1_600_000_000 + rng.integers(0, 200 * DAY_S)
    between = rng.choice([0, 30, 300], size=MAX_EVENTS)
    between[::10] += DAY_S * rng.integers(1, 10, size=len(between[::10]))
    return start + between.cumsum()
