"""z-scores by hand, and a gate that finds the component that knows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from driftline.models.fusion import (
    FusionGate,
    GateExamples,
    ItemFeatures,
    fit_gate,
    history_features,
    item_features,
    standardise,
)

TRUE, FALSE = True, False


def every(scores: Tensor) -> Tensor:
    return torch.ones_like(scores, dtype=torch.bool)


def test_z_scores_by_hand() -> None:
    """1, 3, 8 without the 8: mean 2, deviation 1."""
    z = standardise(torch.tensor([[1.0, 3, 8]]), torch.tensor([[TRUE, TRUE, FALSE]]))
    assert z.tolist() == [[-1, 1, 0]]
    # 0, 3, 6: mean 3, deviation sqrt(18 / 3)
    z = standardise(torch.tensor([[0.0, 3, 6]]), torch.ones(1, 3, dtype=torch.bool))
    assert z[0].tolist() == pytest.approx([-3 / math.sqrt(6), 0, 3 / math.sqrt(6)])


@pytest.mark.parametrize("value", [0.0, 0.1, 1.7917595, 1 / 1682, 1234.567, -3e5])
def test_a_constant_row_becomes_zero(value: float) -> None:
    """Also where the mean in float32 is not quite the value."""
    scores = torch.full((1, 1682), value)
    assert torch.count_nonzero(standardise(scores, every(scores))) == 0


def test_small_differences_are_no_rounding() -> None:
    scores = torch.full((1, 1682), 1e-3)
    scores[0, 7] += 1e-5
    assert float(standardise(scores, every(scores))[0, 7]) == pytest.approx(math.sqrt(1681), rel=0.01)


def test_a_row_without_candidates_becomes_zero() -> None:
    assert standardise(torch.tensor([[1.0, 2]]), torch.tensor([[FALSE, FALSE]])).tolist() == [[0, 0]]


def test_what_is_no_candidate_does_not_count() -> None:
    candidates = torch.tensor([[TRUE, TRUE, TRUE, FALSE]])
    one = standardise(torch.tensor([[1.0, 2, 4, -math.inf]]), candidates)
    other = standardise(torch.tensor([[1.0, 2, 4, 1e9]]), candidates)
    assert torch.equal(one, other)
    assert torch.isfinite(one).all()


@settings(deadline=None)  # other processes may share the cores
@given(
    st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=30),
    st.floats(0.125, 100, width=32),
    st.floats(-100, 100, width=32),
)
def test_z_scores_ignore_scale_and_shift(values: list[float], scale: float, shift: float) -> None:
    scores = torch.tensor([values], dtype=torch.float64)
    if scores.std() < 1e-2:
        return
    moved = scores * scale + shift
    torch.testing.assert_close(
        standardise(moved, every(scores)), standardise(scores, every(scores)), atol=1e-5, rtol=1e-5
    )


def each(features: Tensor) -> ItemFeatures:
    """A row of its own for every item."""
    return ItemFeatures(features, torch.arange(len(features), dtype=torch.int32))


def gate_inputs(rows: int = 3, items: int = 5, components: int = 2) -> tuple[Tensor, Tensor, ItemFeatures, Tensor]:
    torch.manual_seed(0)
    candidates = torch.ones(rows, items, dtype=torch.bool)
    candidates[0, :2] = False
    return torch.randn(components, rows, items), torch.randn(rows, 2), each(torch.randn(items, 2)), candidates


def test_probabilities_of_the_candidates_add_up_to_one() -> None:
    gate = FusionGate(("neural", "markov"))
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter)
    z, history, items, candidates = gate_inputs()
    p = gate(z, history, items, candidates).exp()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(3))
    assert p[0, :2].tolist() == [0, 0]
    assert (p[candidates] > 0).all()


def test_a_user_who_has_everything_gets_impossible_scores_not_nan() -> None:
    z, history, items, candidates = gate_inputs()
    candidates[1] = False
    log_p = FusionGate(("neural", "markov"))(z, history, items, candidates)
    assert log_p[1].tolist() == [-math.inf] * 5
    torch.testing.assert_close(log_p[2].exp().sum(), torch.tensor(1.0))


@torch.no_grad()
def test_a_fresh_gate_adds_components_at_equal_weight() -> None:
    """softplus(-1.5) for each: log-odds of two items are that times the summed difference of their z-scores."""
    z, history, items, candidates = gate_inputs()
    log_p = FusionGate(("neural", "markov"))(z, history, items, candidates)[2]
    assert float(log_p[0] - log_p[1]) == pytest.approx(
        math.log1p(math.exp(-1.5)) * float((z[:, 2, 0] - z[:, 2, 1]).sum()), rel=1e-5
    )


@torch.no_grad()
def test_weights_by_hand() -> None:
    """One component; weight softplus(a + u . history + v . item) = softplus(1 + 2 * 0.5 + 3 * item)."""
    gate = FusionGate(("neural",))
    with torch.no_grad():
        gate.base_C.fill_(1)
        gate.history_FC.copy_(torch.tensor([[2.0], [0]]))
        gate.item_GC.copy_(torch.tensor([[3.0], [0]]))
    items = each(torch.tensor([[0.0, 9], [1, 9]]))
    log_p = gate(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[0.5, 9]]), items, torch.tensor([[TRUE, TRUE]]))[0]
    scores = [math.log1p(math.exp(2)), math.log1p(math.exp(5))]
    assert float(log_p[1] - log_p[0]) == pytest.approx(scores[1] - scores[0], rel=1e-5)


def test_features_by_hand() -> None:
    history = history_features(np.array([0, 20]), np.array([0.25, 1.0]))
    assert history.numpy() == pytest.approx(np.array([[0, 0.25], [math.log(21) / 6, 1]]))
    with_gaps = history_features(np.zeros(5, np.int64), np.zeros(5), np.array([0, 1, 4, 7, 15]))
    assert with_gaps[:, 2:].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    items = item_features(np.array([10, 0, 10], dtype=np.float32))
    assert items.distinct_VG.numpy() == pytest.approx(np.array([[0, 1], [math.log(11) / 6, 0]]))
    assert items.row_N.tolist() == [1, 0, 1]


@torch.no_grad()
def test_a_sampled_column_counts_for_the_items_it_stands_for() -> None:
    """Three items alike, of which one is a column with log 2 beside the target: as if the third were there too."""
    gate, z = FusionGate(("neural",)), torch.tensor([[[1.0, 0, 0]]])
    history, candidates = torch.zeros(1, 2), torch.ones(1, 3, dtype=torch.bool)
    whole = gate(z, history, each(torch.zeros(3, 2)), candidates)[0, 0]
    stands_for = torch.tensor([1.0, 2]).log()
    sampled = gate(z[..., :2], history, each(torch.zeros(2, 2)), candidates[:, :2], stands_for)[0, 0]
    assert float(sampled) == pytest.approx(float(whole))


def examples(informative: int, count: int = 300, new: float = 0.0) -> GateExamples:
    """Three components over 20 items; one of them scores the target high, the others are noise."""
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(3, count, 20, generator=generator)
    targets = torch.randint(0, 20, (count,), generator=generator)
    z[informative, torch.arange(count), targets] += 3
    items = each(torch.tensor([[0.0, new]]).expand(20, 2))
    return GateExamples(z, torch.zeros(count, 2), torch.ones(count, 20, dtype=torch.bool), targets, items)


@pytest.mark.parametrize("informative", [0, 1, 2])
def test_the_gate_learns_which_component_to_trust(informative: int) -> None:
    gate = FusionGate(("neural", "markov", "popularity"))
    given_examples = examples(informative)
    nothing = -math.log(20)
    likelihood = fit_gate(gate, [given_examples], steps=150, weight_decay=1e-3, seed=0)
    weights = torch.nn.functional.softplus(gate.base_C).tolist()
    assert likelihood > nothing + 1
    assert weights[informative] > 5 * max(weight for c, weight in enumerate(weights) if c != informative)


def test_the_gate_learns_to_route_by_drift() -> None:
    """Component 0 knows where P(drift) = 0, component 1 where it is 1."""
    steady, drifting = examples(0), examples(1)
    both = GateExamples(
        torch.cat([steady.z_CBN, drifting.z_CBN], dim=1)[:2],
        torch.cat([torch.zeros(300, 2), torch.tensor([[0.0, 1]]).expand(300, 2)]),
        torch.ones(600, 20, dtype=torch.bool),
        torch.cat([steady.targets_B, drifting.targets_B]),
        steady.items,
    )
    gate = FusionGate(("neural", "markov"))
    fit_gate(gate, [both], steps=200, weight_decay=1e-3, seed=0)
    with torch.no_grad():
        weights = torch.nn.functional.softplus(torch.tensor([[0.0, 0], [0, 1]]) @ gate.history_FC + gate.base_C)
    assert weights[0, 0] > 3 * weights[0, 1]
    assert weights[1, 1] > 3 * weights[1, 0]


def test_the_gate_learns_whom_to_trust_about_new_items() -> None:
    """Component 0 tells known items apart, component 2 new ones, of which there are fewer targets."""
    gate = FusionGate(("neural", "markov", "content"))
    fit_gate(gate, [examples(0), examples(2, count=60, new=1.0)], steps=200, weight_decay=1e-3, seed=0)
    with torch.no_grad():
        known, new = torch.nn.functional.softplus(torch.tensor([[0.0, 0], [0, 1]]) @ gate.item_GC + gate.base_C)
    assert known[0] > 5 * max(known[1:])
    assert new[2] > 5 * max(new[:2])


def test_fitting_is_fixed_by_its_seed() -> None:
    def fitted(seed: int) -> float:
        return fit_gate(FusionGate(("a", "b", "c")), [examples(1)], 20, 1e-3, seed)

    assert fitted(0) == fitted(0)
    assert fitted(0) != fitted(1)
