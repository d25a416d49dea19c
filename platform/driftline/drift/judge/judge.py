"""The LLM judge: did the taste change here? It is asked about alarms only, because every answer costs a forward pass.

Shape legend: C cases, M prompts, H hidden width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from driftline.config import JudgeConfig
from driftline.drift.judge.prompt import ItemArray, Prompt, lists
from driftline.models.verbaliser import Verbaliser

BATCH_PROMPTS = 16

Case = tuple[ItemArray, int]
"""A history, oldest first, and the index of the first event after the supposed change."""


@dataclass(frozen=True, eq=False)
class Opinion:
    """What the judge makes of one case."""

    log_odds: float
    """Of a change, nats; mean over both orders of the two lists, and over lists where the windows are longer."""
    state_H: NDArray[np.float32]
    """Hidden state at the last position; mean over the same."""
    tokens: int
    """Read for it."""

    @property
    def p_changed(self) -> float:
        """By the verbaliser alone; at the even odds of its training."""
        return float(expit(self.log_odds))


class Judge:
    """A trained verbaliser over one catalogue.

    Parameters
    ----------
    model
        From :func:`driftline.models.build.build_judge`, trained; it is put into evaluation mode.
    prompt
        Over the catalogue.
    options
        Items per list; from which P(changed) on an alarm is kept.
    """

    def __init__(self, model: Verbaliser, prompt: Prompt, options: JudgeConfig) -> None:
        self.model, self.prompt, self.options = model.eval(), prompt, options

    def keeps(self, items: ItemArray, change_point: int) -> bool:
        """Whether an alarm stands: P(changed) is at least ``keep_above``; without a change point there is nothing to
        compare, and it stands."""
        if not 0 < change_point < len(items):
            return True
        return self.opinions([(items, change_point)])[0].p_changed >= self.options.keep_above

    @torch.no_grad()
    def opinions(self, cases: Sequence[Case]) -> list[Opinion]:
        """Answers to several cases; prompts of like length share a forward pass."""
        prompts: list[list[int]] = []
        case_of: list[int] = []
        for number, (items, change_point) in enumerate(cases):
            for before, after in lists(items, change_point, self.options.window_items):
                prompts += [self.prompt(before, after), self.prompt(after, before)]
                case_of += [number, number]
        device = self.model.answers_2H.device
        states_MH = torch.empty(len(prompts), self.model.answers_2H.shape[1])
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        for start in range(0, len(order), BATCH_PROMPTS):
            chosen = order[start : start + BATCH_PROMPTS]
            tokens = self.prompt.pad([prompts[place] for place in chosen]).to(device)
            states_MH[chosen] = self.model.states(tokens).float().cpu()
        prompts_C = np.bincount(case_of, minlength=len(cases))
        tokens_C = np.bincount(case_of, [len(prompt) for prompt in prompts], minlength=len(cases))
        sums_CH = torch.zeros(len(cases), states_MH.shape[1]).index_add(0, torch.tensor(case_of), states_MH)
        means_CH = sums_CH / torch.from_numpy(prompts_C)[:, None]
        # log odds are linear in the state: those of the mean state are the mean of all
        log_odds_C = self.model.log_odds(means_CH.to(device)).tolist()
        return [
            Opinion(log_odds, state_H, int(tokens))
            for log_odds, state_H, tokens in zip(log_odds_C, means_CH.numpy(), tokens_C, strict=True)
        ]
