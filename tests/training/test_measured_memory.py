"""The estimate of the dry run against what Linux counts while SmolLM2 trains under DeepSpeed, within 20 %."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from driftline.samples import fetch_smollm2
from tests.tiny import ROOT

SETTINGS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "LOCAL_RANK": "0",
}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "case",
    [
        {"layers": 4, "kind": "lora", "zero_stage": 0},
        {"layers": 30, "kind": "lora", "zero_stage": 2},
        {"layers": 30, "kind": "lora", "zero_stage": 2, "gradient_checkpointing": True},
        {"layers": 4, "kind": "full", "zero_stage": 2},
        {"layers": 4, "kind": "full", "zero_stage": 3},
    ],
    ids=lambda case: "-".join(str(value) for value in case.values()),
)
def test_the_estimate_is_what_training_takes(case: dict[str, Any]) -> None:
    base = fetch_smollm2()
    command = [sys.executable, str(ROOT / "tests/training/peak_memory.py"), str(base), json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=os.environ | SETTINGS)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    ratio = found["estimated"] / found["measured"]
    print(f"{case}: estimated / measured = {ratio:.3f}")
    assert 0.8 < ratio < 1.2
