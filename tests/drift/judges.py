"""A judge with a random Llama behind it: untrained, everything else real."""

from collections.abc import Sequence
from pathlib import Path

import torch

from driftline.config import JudgeConfig
from driftline.drift.judge.judge import Judge
from driftline.drift.judge.prompt import Prompt
from driftline.models.build import build_judge
from driftline.models.text_tower import Tokenizer
from tests.tiny import tiny_config

SMALL = JudgeConfig(enabled=True, layers=2, window_items=6, item_tokens=4, pairs=40, batch_examples=8)


class Recorder(Prompt):
    """Remembers the lists that it was asked about."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], item_tokens: int) -> None:
        super().__init__(tokenizer, texts, item_tokens)
        self.asked: list[tuple[list[int], list[int]]] = []

    def __call__(self, first: Sequence[int], second: Sequence[int]) -> list[int]:  # type: ignore[override]
        self.asked.append((list(map(int, first)), list(map(int, second))))
        return super().__call__(first, second)


def small_judge(folder: Path, texts: Sequence[str]) -> Judge:
    """Of two layers, over items with these texts."""
    config = tiny_config(folder)
    drift = config.drift.model_copy(update={"judge": SMALL})
    prompt = Recorder(Tokenizer(config.text.base, 32), texts, SMALL.item_tokens)
    torch.manual_seed(1)
    return Judge(build_judge(config.model_copy(update={"drift": drift}), prompt.answers), prompt, SMALL)
