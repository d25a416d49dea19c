"""What the judge is trained on: both sides of streams of training users, spliced and not.

Shape legend: M prompts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from driftline.config import JudgeConfig
from driftline.drift.calibration import with_reach
from driftline.drift.judge.prompt import Prompt, lists
from driftline.drift.streams import Recipe, TasteDistance, draw_streams
from driftline.models.text_tower import Tokens
from driftline.sequences.batches import History, length_groups

AGES = (3, 5, 10, 20)
"""Events since the change point at which training looks at a stream: an alarm may come after a few."""


class Examples(NamedTuple):
    """Prompts with their answers."""

    tokens: Tokens
    changed_M: Tensor
    """1 = the second list is another user's."""
    users: tuple[str, ...]

    def to(self, device: torch.device | str) -> "Examples":
        """The same prompts on another device."""
        return Examples(self.tokens.to(device), self.changed_M.to(device), self.users)


@dataclass(frozen=True)
class JudgeSampler:
    """Seeded batches of prompts; every epoch draws streams of its own.

    The order of the items inside a list is shuffled, and so is the order of the two lists: neither tells anything. The
    two streams of a pair are cut at the same age, so that the length of a prompt tells nothing either.

    Parameters
    ----------
    histories
        Of the users that streams are cut from.
    prompt
        Over the catalogue of the histories.
    options
        Pairs per epoch, batch size, items per list.
    taste
        B is then of the tercile farthest from A: clear cases teach faster. None = B is anybody.
    """

    histories: Mapping[str, History]
    prompt: Prompt
    options: JudgeConfig
    seed: int
    taste: TasteDistance | None = None

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Steps of each rank in one epoch."""
        return 2 * self.options.pairs // (self.options.batch_examples * world_size)

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1, start: int = 0) -> Iterator[Examples]:
        """Batches of one epoch for one rank, from its batch number ``start`` on; an incomplete last one is dropped."""
        rng = np.random.default_rng([self.seed, epoch])
        drawn, pairs = int(rng.integers(2**31)), self.options.pairs
        streams = draw_streams(self.histories, self.taste, Recipe("X"), pairs, drawn, ("far",))
        ages = np.repeat(rng.choice(AGES, size=pairs), 2)
        prompts, changed, users = [], [], []
        for (stream, reach), age in zip(with_reach(streams), ages.tolist(), strict=True):
            items = stream.items[: stream.change_point + min(age, reach)]
            sides = [rng.permutation(side) for side in lists(items, stream.change_point, self.options.window_items)[0]]
            prompts.append(self.prompt(*(sides[place] for place in rng.permutation(2))))
            changed.append(float(stream.drifted))
            users.append(stream.user)
        size = self.options.batch_examples
        groups = length_groups([len(prompt) for prompt in prompts], size * world_size, rng)
        steps = [rng.permutation(group) for group in groups if len(group) == size * world_size]
        for step in steps[start:]:
            chosen = step[rank * size : (rank + 1) * size]
            yield Examples(
                self.prompt.pad([prompts[i] for i in chosen]),
                torch.tensor([changed[i] for i in chosen]),
                tuple(users[i] for i in chosen),
            )
