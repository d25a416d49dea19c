"""A language model that answers yes or no: one forward pass, and the logits of two tokens at the last position.

After pattern-exploiting training (Schick & Schütze 2021): a pattern turns an example into text, a verbaliser maps the
two answers to tokens, and every other token of the vocabulary is left out of the softmax.

Shape legend: M prompts, T tokens, H hidden width.
"""

import torch
from torch import Tensor, nn

from driftline.models.text_tower import Tokens

LOGIT_SCALE = 0.1
"""Logits are shrunk: the last state of a model that has lost its upper layers is not what its head was trained on, and
answers would start far too sure (2.9 nats a prompt over the first 50 steps with four of SmolLM2's layers; guessing
has 0.69)."""


class Verbaliser(nn.Module):
    """A backbone without a head, and the two rows of its base's head that stand for the answers.

    Parameters
    ----------
    backbone
        A Hugging Face causal model without its head, already carrying its adapter.
    answers_2H
        Rows of the head: 'yes', then 'no'. They stay as they are.
    """

    answers_2H: Tensor

    def __init__(self, backbone: nn.Module, answers_2H: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("answers_2H", answers_2H.detach().clone(), persistent=False)

    def states(self, tokens: Tokens) -> Tensor:
        """Hidden state at the last real position of each prompt: ``states_MH``."""
        output = self.backbone(input_ids=tokens.ids_MT, attention_mask=tokens.mask_MT, use_cache=False)
        rows = torch.arange(len(tokens.ids_MT), device=tokens.ids_MT.device)
        states_MH: Tensor = output.last_hidden_state[rows, tokens.mask_MT.sum(dim=1) - 1]
        return states_MH

    def log_odds(self, states_MH: Tensor) -> Tensor:
        """Of 'yes' against 'no', in nats: the difference of their scaled logits."""
        logits_M2 = LOGIT_SCALE * (states_MH.float() @ self.answers_2H.float().T)
        return logits_M2[:, 0] - logits_M2[:, 1]

    def forward(self, tokens: Tokens) -> Tensor:
        """Log odds of 'yes' for each prompt: ``log_odds_M``."""
        return self.log_odds(self.states(tokens))


def answer_tokens(yes_ids: list[int], no_ids: list[int]) -> tuple[list[int], int, int]:
    """Where two answers part: the tokens they share, then one token of each.

    Most vocabularies have one token for ' yes' and one for ' no'. Where answers begin alike, what they share ends the
    prompt, and the model is asked for the first token that differs.

    Raises
    ------
    ValueError
        If one answer is the beginning of the other.

    Examples
    --------
    >>> answer_tokens([7], [9])
    ([], 7, 9)
    >>> answer_tokens([3, 7, 1], [3, 9])
    ([3], 7, 9)
    """
    shared = 0
    while shared < min(len(yes_ids), len(no_ids)) and yes_ids[shared] == no_ids[shared]:
        shared += 1
    if shared == min(len(yes_ids), len(no_ids)):
        raise ValueError(f"answers {yes_ids} and {no_ids}: one is the beginning of the other")
    return yes_ids[:shared], yes_ids[shared], no_ids[shared]
