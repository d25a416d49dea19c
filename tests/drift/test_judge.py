"""The LLM judge: what it reads gives nothing away, its arithmetic, and what becomes of an alarm."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from driftline.drift.benchmark.judge_figures import judge_figures
from driftline.drift.benchmark.judged import SPLITS
from driftline.drift.benchmark.trial import Trial
from driftline.drift.calibration import calibrate
from driftline.drift.detector import DriftDetector
from driftline.drift.judge.examples import JudgeSampler
from driftline.drift.judge.judge import Judge
from driftline.drift.judge.prompt import lists
from driftline.models.text_tower import Tokens
from driftline.models.verbaliser import Verbaliser, answer_tokens
from driftline.sequences.batches import History
from tests.drift.judges import SMALL, Recorder, small_judge
from tests.drift.tastes import CONFIG, ITEMS, fresh_model, users


@pytest.fixture(scope="module")
def judge(tiny_folder: Path) -> Judge:
    return small_judge(tiny_folder, [chr(97 + number % 26) * 9 for number in range(ITEMS)])


@pytest.fixture
def prompt(judge: Judge) -> Recorder:
    assert isinstance(judge.prompt, Recorder)
    judge.prompt.asked.clear()
    return judge.prompt


@pytest.mark.parametrize(
    ("length", "k", "size", "expected"),
    [
        (9, 4, 3, [([1, 2, 3], [6, 7, 8])]),
        (9, 4, 2, [([2, 3], [7, 8]), ([0, 1], [5, 6])]),
        (6, 1, 10, [([0], [5])]),
        (6, 5, 10, [([4], [5])]),
    ],
)
def test_lists_are_equally_long_and_newest_first(length: int, k: int, size: int, expected: Any) -> None:
    assert [(a.tolist(), b.tolist()) for a, b in lists(np.arange(length), k, size)] == expected


def test_answers_part_at_the_first_token_that_differs() -> None:
    assert answer_tokens([7], [9]) == ([], 7, 9)
    assert answer_tokens([3, 7, 1], [3, 9]) == ([3], 7, 9)
    with pytest.raises(ValueError, match="one is the beginning of the other"):
        answer_tokens([3], [3, 9])


def test_a_prompt_holds_both_lists_and_ends_where_the_answer_begins(prompt: Recorder) -> None:
    tokenizer = prompt._tokenizer._tokenizer
    text = tokenizer.decode(prompt([0, 1], [2, 3]))
    assert text.startswith("First list: a")
    assert text.index("\nSecond list: c") > text.index("b")
    # ' yes' and ' no' of the tiny vocabulary begin with the same token, which belongs to the prompt
    assert text.endswith("Did the taste change? Answer: ")
    assert tokenizer.convert_ids_to_tokens(list(prompt.answers)) == ["y", "n"]


def test_nothing_but_the_items_tells_the_label(prompt: Recorder) -> None:
    histories = {user: History(items) for user, items in users(12, seed=5).items()}
    sampler = JudgeSampler(histories, prompt, SMALL, seed=3)
    batches = list(sampler.epoch(0))
    assert len(batches) == sampler.batches_per_epoch() == 10
    changed = torch.cat([batch.changed_M for batch in batches])
    assert changed.mean() == 0.5
    lengths = torch.cat([batch.tokens.mask_MT.sum(1) for batch in batches])
    assert sorted(lengths[changed == 1].tolist()) == sorted(lengths[changed == 0].tolist())
    assert {len(first) for first, _ in prompt.asked} == {3, 5, 6}
    assert all(len(first) == len(second) for first, second in prompt.asked)
    # the two streams of a pair share their beginning: the list that both hold is as often first as second
    shared = [
        set(one[0]) in (set(other[0]), set(other[1]))
        for one, other in zip(prompt.asked[::2], prompt.asked[1::2], strict=True)
    ]
    assert 0.3 < np.mean(shared) < 0.7
    assert sum(sorted(first) == first for first, _ in prompt.asked if len(first) == 6) < 5


def test_an_epoch_is_shared_by_the_ranks_and_can_be_entered_anywhere(prompt: Recorder) -> None:
    histories = {user: History(items) for user, items in users(12, seed=5).items()}
    sampler = JudgeSampler(histories, prompt, SMALL, seed=3)
    ranks = [list(sampler.epoch(1, rank, 2)) for rank in range(2)]
    assert [len(batches) for batches in ranks] == [5, 5] == [sampler.batches_per_epoch(2)] * 2
    late = list(sampler.epoch(1, 1, 2, start=3))
    torch.testing.assert_close([b.tokens.ids_MT for b in late], [b.tokens.ids_MT for b in ranks[1][3:]])
    assert not torch.equal(next(sampler.epoch(2, 1, 2)).tokens.ids_MT, ranks[1][0].tokens.ids_MT)


class Given(nn.Module):
    """A backbone whose hidden states are given."""

    def __init__(self, states_MTH: torch.Tensor) -> None:
        super().__init__()
        self.states_MTH = states_MTH

    def forward(self, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=self.states_MTH)


def test_log_odds_by_hand() -> None:
    states_MTH = torch.tensor([[[9.0, 9.0], [2.0, 0.5]], [[-1.0, 1.5], [9.0, 9.0]]])
    verbaliser = Verbaliser(Given(states_MTH), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    tokens = Tokens(torch.zeros(2, 2, dtype=torch.long), torch.tensor([[1, 1], [1, 0]]))
    # yes 2 and no 1 at the last position; of the shorter prompt yes -1 and no 3; a tenth of the differences
    torch.testing.assert_close(verbaliser(tokens), torch.tensor([0.1, -0.4]))


def test_the_order_of_the_windows_does_not_matter(judge: Judge) -> None:
    one, other = np.arange(10), np.arange(50, 60)
    forth, back, alone = judge.opinions(
        [(np.concatenate([one, other]), 10), (np.concatenate([other, one]), 10), (np.arange(30), 14)]
    )
    assert forth.log_odds == pytest.approx(back.log_odds, abs=1e-5)
    assert forth.p_changed == pytest.approx(1 / (1 + np.exp(-forth.log_odds)))
    np.testing.assert_allclose(forth.state_H, back.state_H, atol=1e-5)
    assert judge.opinions([(np.arange(30), 14)])[0].log_odds == pytest.approx(alone.log_odds, abs=1e-5)
    # 14 items a side are two lists of six, read in both orders: 4 prompts of 12 items, each of at most 4 + 1 tokens
    assert 4 * 12 * 2 < alone.tokens < 4 * (12 * 5 + 60)


@pytest.mark.parametrize(("keep_above", "stands"), [(1e-9, True), (1 - 1e-9, False)])
def test_an_alarm_is_kept_or_overruled(judge: Judge, keep_above: float, stands: bool) -> None:
    model = fresh_model()
    loud = calibrate(model, users(12, seed=2), CONFIG.model_copy(update={"arl_events": 10}), seed=0, pairs=6)
    history = np.arange(40)
    asked = Judge(judge.model, judge.prompt, SMALL.model_copy(update={"keep_above": keep_above}))
    (plain,) = DriftDetector(model, loud, CONFIG).scan([history])
    # an alarm at the last event, whatever the model
    at_last = replace(loud, natural=replace(loud.natural, p_alarm=float(plain.p_drift[-1])))
    (judged,) = DriftDetector(model, at_last, CONFIG, asked).scan([history])
    assert judged.alarm is stands
    np.testing.assert_array_equal(judged.p_drift, plain.p_drift)
    never = replace(loud, natural=replace(loud.natural, p_alarm=2.0))
    assert DriftDetector(model, never, CONFIG, asked).scan([history])[0].alarm is False
    assert asked.keeps(history, -1)  # nothing to compare


def test_figures_of_the_judge_by_hand() -> None:
    def row(user: str, other: str | None, alarm: int, judge: float, split: float) -> dict[str, Any]:
        opinion = {"alarm": alarm, "alarm classifier": 1.0, "alarm judge": judge}
        scores = {f"{name} {age}": split if "judge" in name else 0.0 for name in SPLITS for age in (10, 20, 40)}
        return {"user": user, "other": other, "label": other is not None, "k": 20, **opinion, **scores}

    nan = float("nan")
    rows = [
        row("a", "b", 25, 2.0, 1.0),  # true, kept
        row("b", "a", 22, -1.0, 1.0),  # true, overruled
        row("c", "a", 17, -3.0, -1.0),  # before the change: false, overruled
        row("c", "b", -1, nan, 1.0),
        row("a", None, 30, nan, 0.0),  # false, without an opinion: kept
        row("b", None, -1, nan, 0.0),
    ]
    summary = {"keep_above": 0.5, "seconds_per_alarm": 0.25, "tokens_per_alarm": 400.0}
    found = judge_figures([Trial(pd.DataFrame(rows), summary)])
    assert found["pair_auroc"]["judge"]["20"].mean == 0.75
    assert found["pair_auroc"]["classifier"]["20"].mean == 0.5
    assert found["gain"]["classifier + judge"]["20"].mean == 0.25
    alarms = found["alarms"]
    assert (alarms["true"], alarms["false"]) == (2, 2)
    assert alarms["true_kept"].mean == alarms["false_overruled"].mean == 0.5
    # of 2 and -1 against -3 and 'kept without an opinion': two of four pairs
    assert alarms["auroc_judge"].mean == 0.5
    assert found["seconds_per_alarm"] == 0.25
