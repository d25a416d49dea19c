"""What is handed to DeepSpeed, read by DeepSpeed's own configuration class, without a GPU and without ranks."""

from pathlib import Path
from typing import Any

import pytest

from driftline.config import Config, load_config
from driftline.training.deepspeed_config import deepspeed_dict

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("text", "ranker", "drift")


class Ranks:
    """The part of Megatron's ``mpu`` that DeepSpeed asks for the number of data-parallel ranks."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size

    def get_data_parallel_world_size(self) -> int:
        return self._world_size


def handed_over(config: Config, stage: str, steps: int = 1000) -> dict[str, Any]:
    """The dictionary of one stage."""
    rate, batch = {
        "text": (config.text.learning_rate, config.text.batch_items),
        "ranker": (config.training.learning_rate, config.training.batch_users),
        "drift": (config.drift.learning_rate, config.drift.batch_users),
    }[stage]
    return deepspeed_dict(config.training, rate, steps, batch, config.training.num_workers)


def understood(options: dict[str, Any], world_size: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What DeepSpeed makes of a dictionary in a job of so many ranks; this process is rank 0 and has no group."""
    from deepspeed.runtime import config as deepspeed_config

    monkeypatch.setattr(deepspeed_config.dist, "get_rank", lambda: 0)
    return deepspeed_config.DeepSpeedConfig(options, mpu=Ranks(world_size))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "jobs/configs").glob("*.yaml")) if not path.name.startswith("sweep-")],
    ids=lambda path: path.name,
)
def test_deepspeed_accepts_every_stage_of_a_shipped_configuration(
    path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(path)
    found = understood(handed_over(config, stage), config.training.num_workers, monkeypatch)
    wanted = config.training.deepspeed
    assert found.zero_optimization_stage == wanted.zero_stage
    assert found.bfloat16_config.enabled == (wanted.precision == "bf16")
    assert not found.float16_config.enabled
    assert found.gradient_clipping == wanted.gradient_clipping
    assert found.train_batch_size == found.train_micro_batch_size_per_gpu * config.training.num_workers


def test_the_8b_configuration_is_zero3_bf16_with_gradient_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(ROOT / "jobs/configs/gpu-8b-zero3.yaml")
    found = understood(handed_over(config, "text"), config.training.num_workers, monkeypatch)
    assert config.training.use_gpu
    assert config.training.deepspeed.gradient_checkpointing
    assert found.zero_optimization_stage == 3
    assert found.bfloat16_config.enabled
    assert found.zero_config.gather_16bit_weights_on_model_save
    assert found.optimizer_params["lr"] == 2e-4
    assert (found.train_batch_size, found.train_micro_batch_size_per_gpu) == (64, 8)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_deepspeed_accepts_every_combination(
    zero_stage: int, precision: str, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [
        f"training.deepspeed.zero_stage={zero_stage}",
        f"training.deepspeed.precision={precision}",
        f"training.schedule={schedule}",
        "training.deepspeed.gradient_accumulation_steps=4",
        "training.use_gpu=true",
        "training.num_workers=3",
    ]
    config = load_config(ROOT / "jobs/configs/tiny.yaml", overrides)
    found = understood(handed_over(config, "ranker"), 3, monkeypatch)
    assert found.zero_optimization_stage == zero_stage
    assert (found.float16_config.enabled, found.bfloat16_config.enabled) == (precision == "fp16", precision == "bf16")
    assert found.gradient_accumulation_steps == 4
    assert found.train_batch_size == 16 * 4 * 3


def test_warm_up_is_never_longer_than_a_tenth_of_a_short_stage() -> None:
    """20 steps of warm-up, but a stage of 50 steps warms up for 5 and one of 3 steps for 1."""
    config = load_config(ROOT / "jobs/configs/demo.yaml")
    warmup = {s: handed_over(config, "text", s)["scheduler"]["params"]["warmup_num_steps"] for s in (3, 50, 200, 9000)}
    assert warmup == {3: 1, 50: 5, 200: 20, 9000: 20}


def test_on_cpu_torch_provides_adam_so_that_nothing_is_compiled() -> None:
    config = load_config(ROOT / "jobs/configs/demo.yaml")
    assert handed_over(config, "ranker")["optimizer"]["params"]["torch_adam"] is True
