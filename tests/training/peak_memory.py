"""A process of its own that trains the text stage for three steps and prints the memory it took, and what was estimated.

python tests/training/peak_memory.py BASE '{"layers": 4, "kind": "lora", "zero_stage": 2, "gradient_checkpointing": false}'

Resident memory is read from Linux: the high-water mark is reset when everything but the model has been imported. Blocks of
more than 64 KiB are mapped on their own (``MALLOC_MMAP_THRESHOLD_``), so that what is freed goes back at once.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

BATCH, TOKENS, ITEMS, STEPS = 16, 48, 1682, 3


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (most) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main(base: str, case: dict[str, Any]) -> None:
    import torch
    import torch.distributed as dist

    from driftline.config import AdapterConfig, DeepSpeedConfig, TextConfig, TrainingConfig
    from driftline.models.text_tower import TextAligner, TextTower, Tokens
    from driftline.training.deepspeed_config import deepspeed_dict, initialize
    from driftline.training.dry_run import text_stage_size
    from driftline.training.memory import Device, memory

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": case["port"], "RANK": "0", "WORLD_SIZE": "1"}
    os.environ["LOCAL_RANK"] = "0"
    dist.init_process_group("gloo")
    initialize(torch.nn.Linear(2, 2), _options(TrainingConfig(deepspeed=DeepSpeedConfig(zero_stage=case["zero_stage"]))))
    options = DeepSpeedConfig(zero_stage=case["zero_stage"], gradient_checkpointing=case["gradient_checkpointing"])
    text = TextConfig(base=base, layers=case["layers"], adapter=AdapterConfig(kind=case["kind"]), batch_items=BATCH)
    elements, activations = text_stage_size(text, options, ITEMS, text_length=TOKENS)
    warm = torch.randn(256, 256, requires_grad=True)
    (warm @ warm).sum().backward()
    before = resident("VmRSS")

    tower = TextTower.build(base, text, 64, options.gradient_checkpointing)
    for parameter in tower.parameters():  # safetensors maps the file: rows of the embedding that nothing reads take no memory
        parameter.data = parameter.data.clone()
    aligner = TextAligner(tower, torch.randn(ITEMS, 64), torch.ones(ITEMS, dtype=torch.bool)).train()
    engine = initialize(aligner, _options(TrainingConfig(deepspeed=options)))
    mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
    mask[0, TOKENS // 2 :] = 0
    tokens = Tokens(torch.randint(0, 1000, (BATCH, TOKENS)), mask)
    for step in range(STEPS):
        if step == 1:  # from here on Adam's moments are there
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        engine.backward(engine(tokens, torch.arange(BATCH)))
        engine.step()
    measured = resident("VmHWM") - before
    estimate = memory(elements, activations, options, Device(workers=1, is_gpu=False))
    print(json.dumps({"measured": measured, "estimated": estimate.total - estimate.framework, "moment": estimate.peak[0]}))


def _options(training: Any) -> dict[str, Any]:
    from driftline.training.deepspeed_config import deepspeed_dict

    return deepspeed_dict(training, 1e-3, 100, BATCH, 1)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
