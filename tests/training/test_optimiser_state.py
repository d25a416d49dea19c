"""Moments as whole tensors are those that Adam has, under every ZeRO stage and precision."""

from pathlib import Path

import pytest
import torch
from torch import nn

from driftline.config import TrainingConfig
from driftline.models.adapters import adapter_state, load_adapter_state
from driftline.training.deepspeed_config import deepspeed_dict, initialize
from driftline.training.optimiser_state import gather, restore
from tests.training.ranks import run_ranks

STEPS = 5
BF16_TOLERANCE = 2e-3
"""Gradients are summed over ranks in bf16, one unit of which is 2^-8 of a value."""


def _model() -> nn.Module:
    """Sizes that no number of ranks divides."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 13), nn.Tanh(), nn.Linear(13, 3))


def _engine(zero_stage: int, precision: str, world_size: int, module: nn.Module) -> object:
    sharded = {"persistence_threshold": 0} if zero_stage == 3 else {}
    config = TrainingConfig.model_validate(
        {"deepspeed": {"zero_stage": zero_stage, "precision": precision, **sharded}, "warmup_steps": 2}
    )
    return initialize(module, deepspeed_dict(config, 1e-2, 100, 8 // world_size, world_size))


def _train(engine: object, rank: int, world_size: int, steps: int) -> None:
    share = slice(rank * 8 // world_size, (rank + 1) * 8 // world_size)
    data = torch.randn(8, 7, generator=torch.Generator().manual_seed(1))[share]
    for _ in range(steps):
        dtype = next(engine.module.parameters()).dtype  # type: ignore[attr-defined]
        loss = engine(data.to(dtype)).float().square().mean()  # type: ignore[operator]
        engine.backward(loss)  # type: ignore[attr-defined]
        engine.step()  # type: ignore[attr-defined]


def _two_ranks(rank: int, world_size: int, zero_stage: int, precision: str, folder: Path) -> None:
    engine = _engine(zero_stage, precision, world_size, _model())
    if precision == "fp32":  # in bf16 without ZeRO DeepSpeed makes a step with zero gradients by itself
        assert gather(engine, keep=True) == {}
    _train(engine, rank, world_size, STEPS)
    moments, weights = gather(engine, keep=rank == 0), adapter_state(engine.module)  # type: ignore[attr-defined]
    _train(engine, rank, world_size, 3)
    after = adapter_state(engine.module)  # type: ignore[attr-defined]
    if rank == 0:
        torch.save((moments, weights, after), folder / "state.pt")
    else:
        assert moments == {}


def _one_rank(rank: int, world_size: int, zero_stage: int, precision: str, folder: Path) -> None:
    moments, weights, after = torch.load(folder / "state.pt", weights_only=True)
    module = _model()
    load_adapter_state(module, {name: tensor.float() for name, tensor in weights.items()})
    engine = _engine(zero_stage, precision, world_size, module)
    restore(engine, moments, STEPS)
    again = gather(engine, keep=True)
    assert again.keys() == moments.keys()
    for name, tensor in moments.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)
    _train(engine, rank, world_size, 3)
    for name, tensor in adapter_state(engine.module).items():  # type: ignore[attr-defined]
        tolerance = 1e-6 if precision == "fp32" else BF16_TOLERANCE
        torch.testing.assert_close(tensor.float(), after[name].float(), rtol=0, atol=tolerance)


CASES = [(zero_stage, precision) for zero_stage in range(4) for precision in ("fp32", "bf16")]


def _all_cases(rank: int, world_size: int, root: Path) -> None:
    for zero_stage, precision in CASES:
        folder = root / f"{zero_stage}-{precision}"
        folder.mkdir(exist_ok=True)
        _two_ranks(rank, world_size, zero_stage, precision, folder)


@pytest.fixture(scope="module")
def by_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("moments")
    run_ranks(2, _all_cases, root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("zero_stage", "precision"), CASES)
def test_one_rank_goes_on_with_the_moments_of_two(
    zero_stage: int, precision: str, by_two_ranks: Path, one_rank: None
) -> None:
    """Three more steps by one rank come out as three more steps by the two."""
    _one_rank(0, 1, zero_stage, precision, by_two_ranks / f"{zero_stage}-{precision}")


def test_moments_by_hand(one_rank: None) -> None:
    """One weight, gradient 1 (d(w x)/dw with x = 1): after one step m = (1 - .9) 1, v = (1 - .999) 1."""
    module = nn.Linear(1, 1, bias=False)
    config = TrainingConfig.model_validate({"deepspeed": {"zero_stage": 2, "gradient_clipping": 100.0}})
    engine = initialize(module, deepspeed_dict(config, 1e-2, 100, 1, 1))
    engine.backward(engine(torch.ones(1, 1)).sum())
    engine.step()
    moments = gather(engine, keep=True)
    assert moments["exp_avg/weight"].item() == pytest.approx(0.1)
    assert moments["exp_avg_sq/weight"].item() == pytest.approx(0.001)
    assert moments["step"].item() == 1
