"""What the parity matrix runs: the real aligner, engine and checkpoint state on two processes that stay for all cases.

    OMP_NUM_THREADS=1 PYTHONPATH=platform:. python -m tests.training.parity

writes the golden loss curves in ``tests/assets/losses/`` anew (two minutes). Do so only when losses are meant to move,
and say why in the changelog.
"""

import itertools
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).resolve().parents[1] / "assets" / "losses"
WORLD_SIZE = 2
TEXTS = 32
DIM, FACTOR_DIM = 8, 6
SEED = 5
RELEASE_AT_ONCE = {
    "stage3_max_live_parameters": 0,
    "stage3_max_reuse_distance": 0,
    "stage3_prefetch_bucket_size": 0,
}
"""By default DeepSpeed keeps gathered weights that it will need again soon, and a tiny model fits there whole: a layer
that reads another's weights after it has run (DoRA) would be right here and wrong at scale."""


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    kind: str
    zero_stage: int
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    steps: int = 20

    @property
    def name(self) -> str:
        """As in file names and test ids."""
        parts = [self.kind, f"zero{self.zero_stage}"]
        parts += [self.precision] * (self.precision != "fp32") + ["checkpointing"] * self.gradient_checkpointing
        return "-".join(parts)

    @property
    def golden(self) -> Path:
        """The curve that every ZeRO stage must follow."""
        return GOLDEN / f"{self.kind}{'' if self.precision == 'fp32' else '-' + self.precision}.json"


MATRIX = [Case(kind, stage) for kind in ("lora", "dora", "full") for stage in range(4)]
OTHERS = [Case(kind, stage) for kind in ("ia3", "prefix") for stage in (2, 3)]
BF16 = Case("lora", 3, "bf16")
CHECKPOINTING = Case("lora", 3, gradient_checkpointing=True)
ADALORA = Case("adalora", 0, steps=32)
WORDS = ("Ranch", "Orbit")


def run(cases: Sequence[Case], folder: Path) -> dict[Case, dict[str, Any]]:
    """Train every case on two processes; returns what rank 0 saw.

    For each case: ``losses`` (mean of the ranks, by step), ``before`` and ``weights`` (trained weights before the first
    and after the last step), and ``vectors`` of the texts, read by the sharded module; ``released``, by the same module
    after the engine has let go of it; ``reloaded``, by a fresh tower with the saved weights. ``ranks``: those that
    AdaLoRA has left, by step and module.
    """
    from tests.tiny import write_base

    if not (folder / "base").is_dir():
        write_base(folder / "base")
    torch.multiprocessing.spawn(_worker, (list(cases), folder), nprocs=WORLD_SIZE)
    results: dict[Case, dict[str, Any]] = torch.load(folder / "results.pt", weights_only=False)
    return results


def _worker(rank: int, cases: list[Case], folder: Path) -> None:
    """One of the two processes."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(WORLD_SIZE)}
    meeting = f"file://{tempfile.gettempdir()}/{folder.name}-meeting-{os.getppid()}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD_SIZE)
    results = {case: _train(case, rank, folder / "base") for case in cases}
    if rank == 0:
        torch.save(results, folder / "results.pt")
    dist.barrier()
    dist.destroy_process_group()


def _train(case: Case, rank: int, base: Path) -> dict[str, Any]:
    import torch.distributed as dist

    from driftline.models.adalora import rank_allocation
    from driftline.models.adapters import adapter_state, load_adapter_state
    from driftline.models.text_sampler import TextSampler
    from driftline.models.text_tower import TextAligner, Tokenizer
    from driftline.training.deepspeed_config import deepspeed_dict, initialize, release

    texts = [f"{word} {number} (19{number + 50}). Genres: Western." for number in range(TEXTS // 2) for word in WORDS]
    tokenizer = Tokenizer(base, 32)
    torch.manual_seed(SEED)
    factors = torch.randn(TEXTS, FACTOR_DIM)
    aligner = TextAligner(_tower(case, base), factors, torch.ones(TEXTS, dtype=torch.bool))
    before = adapter_state(aligner)
    options = deepspeed_dict(_training(case), 1e-2, case.steps, 4, WORLD_SIZE)
    if case.zero_stage == 3:
        options["zero_optimization"] |= RELEASE_AT_ONCE
    engine = initialize(aligner, options)
    sampler = TextSampler(tokenizer, texts, np.arange(TEXTS), 4, SEED)
    allocation = rank_allocation(aligner, case.steps)
    found: dict[str, Any] = {"before": before, "losses": [], "ranks": []}
    aligner.train()
    for tokens, items in _batches(sampler, rank, case.steps):
        loss = engine(tokens, items)
        if allocation is None:
            engine.backward(loss)
            engine.step()
        else:
            allocation.optimise(engine, loss)
            found["ranks"].append([values.nonzero()[:, 0].tolist() for values in _singular_values(aligner)])
        mean = loss.detach().double() / WORLD_SIZE
        dist.all_reduce(mean)
        found["losses"].append(float(mean))
    aligner.eval()
    with torch.no_grad():
        vectors = aligner.tower(tokenizer(texts)).float()
    found |= {"weights": adapter_state(aligner), "vectors": vectors}
    release(engine)
    fresh = TextAligner(_tower(case, base), factors, torch.ones(TEXTS, dtype=torch.bool)).eval()
    load_adapter_state(fresh, found["weights"])
    with torch.no_grad():
        found["released"] = aligner.tower(tokenizer(texts)).float()
        found["reloaded"] = fresh.tower(tokenizer(texts))
    return found


def _batches(sampler: Any, rank: int, steps: int) -> Iterator[Any]:
    epochs = (sampler.epoch(epoch, rank, WORLD_SIZE) for epoch in itertools.count())
    return itertools.islice(itertools.chain.from_iterable(epochs), steps)


def _singular_values(module: Any) -> list[torch.Tensor]:
    return [parameter.detach() for name, parameter in module.named_parameters() if "lora_E" in name]


def _training(case: Case) -> Any:
    from driftline.config import DeepSpeedConfig, TrainingConfig

    deepspeed = DeepSpeedConfig(
        zero_stage=case.zero_stage,
        precision=case.precision,
        persistence_threshold=0 if case.zero_stage == 3 else None,  # so that the smallest tensors are sharded too
    )
    return TrainingConfig(deepspeed=deepspeed, warmup_steps=2)


def _tower(case: Case, base: Path) -> Any:
    from driftline.config import AdapterConfig, TextConfig
    from driftline.models.text_tower import TextTower

    adapter = AdapterConfig(kind=case.kind, rank=4, alpha=8)
    return TextTower.build(base, TextConfig(layers=2, adapter=adapter), DIM, case.gradient_checkpointing)


def write_golden(folder: Path) -> None:
    """The curves of ZeRO-0, with what they were computed on."""
    from driftline.evaluation.provenance import versions

    GOLDEN.mkdir(parents=True, exist_ok=True)
    cases = [case for case in MATRIX if case.zero_stage == 0] + [BF16]
    for case, result in run(cases, folder).items():
        note = {
            "what": f"{case.name}: mean loss of {WORLD_SIZE} workers, {case.steps} steps of text alignment, tiny Llama",
            "command": "OMP_NUM_THREADS=1 PYTHONPATH=platform:. python -m tests.training.parity",
            "hardware": _hardware(),
            "versions": versions(),
        }
        losses = [round(loss, 6) for loss in result["losses"]]
        case.golden.write_text(json.dumps({**note, "losses": losses}, indent=1) + "\n")
        print(case.golden, losses[0], losses[-1])


def _hardware() -> str:
    import platform

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{platform.machine()} CPU, {model}, 1 thread per worker"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        write_golden(Path(place))
    sys.exit(0)
