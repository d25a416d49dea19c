"""A process of its own that trains the text stage for three steps and prints the memory that took, and the estimate.

python tests/training/peak_memory.py BASE '{"layers": 4, "kind": "lora", "zero_stage": 2}'

Resident memory is read from Linux; its high-water mark is reset once Adam's moments are there. What is freed must go
back at once: start it with ``MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=65536``.
"""

import json
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

    from driftline.config import parse_config
    from driftline.models.text_tower import TextAligner, TextTower, Tokens
    from driftline.training.deepspeed_config import deepspeed_dict, initialize
    from driftline.training.dry_run import count
    from driftline.training.memory import Device, memory
    from driftline.training.outlines import follow_text, text_outline

    config = parse_config(
        {
            "data": {"sample": "ml-100k"},
            "text": {
                "base": base, "layers": case.pop("layers"), "adapter": {"kind": case.pop("kind")},
                "batch_items": BATCH, "max_tokens": TOKENS,
            },
            "training": {"num_workers": 1, "deepspeed": case},
        }
    )  # fmt: skip
    options = config.training.deepspeed
    with torch.device("meta"):
        module, _ = text_outline(config, ITEMS, TOKENS, options.gradient_checkpointing)
    activations = follow_text(config, ITEMS, TOKENS, options.gradient_checkpointing)
    estimate = memory(count(module, config), activations, options, Device(workers=1, is_gpu=False))

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    engine_options = deepspeed_dict(config.training, 1e-3, 100, BATCH, 1)
    initialize(torch.nn.Linear(2, 2), engine_options)  # what libraries allocate for good, they allocate now
    before = resident("VmRSS")
    tower = TextTower.build(base, config.text, 64, options.gradient_checkpointing)
    for parameter in tower.parameters():
        # safetensors maps the file: rows of the embedding table that nothing reads would take no memory
        parameter.data = parameter.data.clone()
    aligner = TextAligner(tower, torch.randn(ITEMS, 64), torch.ones(ITEMS, dtype=torch.bool)).train()
    engine = initialize(aligner, engine_options)
    mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
    mask[0, TOKENS // 2 :] = 0
    tokens = Tokens(torch.randint(0, 1000, (BATCH, TOKENS)), mask)
    for step in range(STEPS):
        if step == 1:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        engine.backward(engine(tokens, torch.arange(BATCH)))
        engine.step()
    measured = resident("VmHWM") - before
    print(json.dumps({"measured": measured, "estimated": estimate.total - estimate.framework}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
