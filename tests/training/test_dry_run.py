"""A plan of a run: right about what can be counted by hand, without weights and without Ray."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from driftline.training.dry_run import DryRun, dry_run
from tests.tiny import ITEMS, ROOT, tiny_config, tiny_overrides

H, FEED, LAYERS, HEADS, KV_HEADS, WIDTH, VOCABULARY = 4096, 12288, 36, 32, 8, 128, 151_936
QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": H,
    "intermediate_size": FEED,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": WIDTH,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
}


JUDGE = "drift.judge={enabled: true, layers: 1, window_items: 3, item_tokens: 9, adapter: {rank: 2}}"


@pytest.fixture(scope="module")
def plan(tiny_folder: Path) -> DryRun:
    return dry_run(tiny_config(tiny_folder, ["text.domain.epochs=2", JUDGE]))


def test_every_stage_is_planned(plan: DryRun) -> None:
    assert [stage.name for stage in plan.stages] == ["domain", "text", "ranker", "drift", "judge"]
    assert plan.data["items"] == ITEMS


def test_parameters_and_targets_of_the_text_stage(plan: DryRun) -> None:
    domain, text = plan.stages[:2]
    lora = 2 * (4 * (32 + 32) + 4 * (32 + 16))  # two layers; query 32 to 32 and value 32 to 16, rank 4
    assert domain.trainable == lora
    tower = 32 + 2 * 2 * 32 + 32 * 64  # read-out, two norms, projection
    assert text.trainable == lora + tower + 64 * 64  # and the map of the collaborative factors
    assert text.adapter == "LoRA rank 4 on q_proj x2, v_proj x2"
    assert text.parameters > text.trainable


def test_attributes_of_items_and_of_users_are_counted(plan: DryRun, tiny_folder: Path, tmp_path: Path) -> None:
    users = tmp_path / "trades.csv"
    users.write_text("user_id,trade\n" + "".join(f"u{n},{('smith', 'nurse')[n % 2]}\n" for n in range(150)))
    read = ["heads.text=1", "drift.enabled=false", f"data.users={users}", "data.user_attributes=[trade]"]
    ranker, plain = dry_run(tiny_config(tiny_folder, read)).stages[1], plan.stages[2]
    features = 64 + 6 + 16  # of the text head: text vector, genres, centres of years
    added = (features + 1) * (16 + 1) + (2 + 1) * 16  # and two trades, and an unknown one
    assert ranker.trainable - plain.trainable == added
    held = [plan.chosen.weights + plan.chosen.tables for plan in (ranker, plain)]
    assert held[0] - held[1] == 4 * (added + ITEMS * features) + ITEMS  # a byte: whether the head learns from it


def test_steps_of_a_stage(plan: DryRun) -> None:
    domain, ranker = plan.stages[0], plan.stages[2]
    assert (domain.steps_per_epoch, domain.epochs) == (ITEMS * 9 // 10 // (16 * 2), 2)
    # 150 users, 16 sequences for each of two workers: ten groups, five steps
    assert (ranker.steps_per_epoch, ranker.epochs, ranker.batch, ranker.length) == (5, 6, 16, 60)
    assert ranker.units_per_epoch == 5 * 16 * 60 * 2


def test_the_judge_has_a_depth_and_an_adapter_of_its_own(plan: DryRun) -> None:
    judge = plan.stages[4]
    assert judge.adapter == "LoRA rank 2 on q_proj x1, v_proj x1"
    assert judge.trainable == 2 * (32 + 32) + 2 * (32 + 16)
    # twice three items of nine tokens and a separator, and the question; 1,600 prompts, 16 for each of two workers
    assert (judge.length, judge.steps_per_epoch, judge.epochs) == (2 * 3 * 10 + 20, 50, 4)


def test_more_workers_hold_no_more(plan: DryRun) -> None:
    for stage in plan.stages:
        assert set(stage.memory) == {"as configured (ZeRO-2)", "ZeRO-0", "ZeRO-1", "ZeRO-2", "ZeRO-3"}
        assert stage.chosen == stage.memory["ZeRO-2"]
        assert stage.memory["ZeRO-2"].gradients == stage.memory["ZeRO-1"].gradients / 2
        assert stage.chosen.total == max(size for _, size in stage.chosen.moments)
        assert all(said.startswith("fits") for said in stage.cards.values())


def test_scores_over_all_items_dominate_the_ranker(plan: DryRun) -> None:
    ranker = plan.stages[2]
    scores = 16 * 60 * ITEMS * 4
    # logits, log-probabilities and the gradients of both: three to five copies at once
    assert 3 * scores < ranker.activations[False].peak < 6 * scores
    assert ranker.inside["one copy of the logits (in activations)"] == scores


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs/train.py"), *arguments, "--dry-run"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=170, cwd=ROOT)


@pytest.mark.slow
def test_an_8b_model_of_which_only_the_shape_is_there(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_8B), encoding="utf-8")
    data = [setting for setting in tiny_overrides(tiny_folder) if not setting.startswith("text.base")]
    settings = [*data, f"text.base={tmp_path}", "data.sample=null", "text.max_facts_chars=0"]
    settings = [part for setting in settings for part in ("--set", setting)]
    done = run("--config", "jobs/configs/gpu-8b-zero3.yaml", *settings, "--result", str(tmp_path / "plan.json"))
    assert done.returncode == 0, done.stderr
    for said in ("q_proj x36", "ZeRO-3 + CPU offload", "has no tokenizer", "NVIDIA H100", "a card of 24 GB"):
        assert said in done.stdout
    text: dict[str, Any] = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["stages"][0]
    attention = H * WIDTH * (2 * HEADS + 2 * KV_HEADS) + 2 * WIDTH  # and the norms of queries and keys
    backbone = VOCABULARY * H + LAYERS * (attention + 3 * H * FEED + 2 * H) + H
    lora = LAYERS * 16 * (2 * (H + HEADS * WIDTH) + 2 * (H + KV_HEADS * WIDTH))
    assert text["parameters"] - text["trainable"] == backbone
    assert text["trainable"] == lora + H + 4 * H + 64 * H + 64 * 64
    checkpointed, whole = text["activations"]["with_checkpointing"], text["activations"]["without_checkpointing"]
    assert checkpointed["peak"] < whole["peak"] / 5
    # bf16 weights over eight GPUs, but low-rank matrices (16 x 4096 < 100,000) stay whole; at first everything is whole
    held = text["memory"]["ZeRO-3"]
    assert held["weights"] == pytest.approx(2 * (backbone / 8 + lora), rel=0.001)
    assert held["moments"]["before sharding"] == pytest.approx(2 * backbone + held["framework"], rel=0.01)


def test_a_missing_base_is_the_usual_error(tiny_folder: Path, tmp_path: Path) -> None:
    settings = [part for setting in tiny_overrides(tiny_folder) for part in ("--set", setting)]
    done = run("--config", "jobs/configs/tiny.yaml", *settings, "--set", f"text.base={tmp_path / 'nowhere'}")
    assert done.returncode == 1
    assert "no such model directory" in done.stderr
    assert "Traceback" not in done.stderr
