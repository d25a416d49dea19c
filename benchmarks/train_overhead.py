"""What Driftline's training loop costs beside plain PyTorch, and what it saves beside transformers.Trainer.

python benchmarks/train_overhead.py

Three ratios of throughput, each measured in turns on the same model, data and threads: one rank beside a plain PyTorch
loop and two ranks beside DistributedDataParallel (ranking model, MovieLens-100K), both launched by torchrun; and the
text tower beside transformers.Trainer with PEFT, which pads random batches (item texts with knowledge-graph facts). An
epoch is timed from the first to the last batch that the loop asks for; the first epoch warms up.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from driftline.cli import run_job

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TURNS = 3
EPOCHS = 3
TEXTS = 384
COMPARISONS = {
    # what is compared: (ours, the peer, ranks, least ratio that is claimed)
    "one rank / plain PyTorch": ("driftline", "plain", 1, 0.97),
    "two ranks / DDP": ("driftline", "plain", 2, 0.97),
    "text tower / transformers.Trainer": ("driftline-text", "trainer", 1, 1.5),
}


class Timed:
    """A sampler that notes when each batch of an epoch is asked for."""

    def __init__(self, sampler: Any, units: Callable[[Any], int]) -> None:
        self._sampler, self._units = sampler, units
        self.rates: list[float] = []

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """As the sampler says."""
        return int(self._sampler.batches_per_epoch(world_size))

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1, start: int = 0) -> Iterator[Any]:
        """The sampler's batches; notes units per second between the first request and the last."""
        started, done, held, rate = 0.0, 0, 0, 0.0
        try:
            for batch in self._sampler.epoch(epoch, rank, world_size, start):
                started = started or time.perf_counter()
                done, held = done + held, self._units(batch)
                if done:
                    rate = done * world_size / (time.perf_counter() - started)
                yield batch
        finally:  # a loop that knows how many batches there are never asks for the end
            self.rates.append(rate)


def main(
    measure: Annotated[str | None, typer.Option(help="Used by the benchmark itself: what a process measures.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS / "train-overhead.json",
) -> None:
    """Measure all three comparisons and write them down."""
    if measure is not None:
        rates = {"driftline": ours, "plain": plain, "driftline-text": ours_text, "trainer": trainer}[measure]()
        if int(os.environ["RANK"]) == 0:
            out.write_text(json.dumps(rates))
        return
    from driftline.evaluation.provenance import provenance

    console, found = Console(), dict[str, Any]()
    for name, (own, peer, ranks, claim) in COMPARISONS.items():
        rates: dict[str, list[float]] = {own: [], peer: []}
        for turn in range(TURNS):
            for who in (own, peer):
                rates[who] += launched(who, ranks)
                console.print(f"{name}: turn {turn + 1} of {TURNS}, {who} {rates[who][-1]:,.0f}/s", highlight=False)
        ratio = statistics.median(rates[own]) / statistics.median(rates[peer])
        found[name] = {"units_per_s": rates, "ratio": ratio, "claim": claim}
        console.print(f"[bold]{name}: {ratio:.3f}[/bold] (claim: at least {claim})", highlight=False)
    found["text lengths, tokens"] = lengths()
    console.print(f"text lengths in tokens, by tenths: {found['text lengths, tokens']}", highlight=False)
    config = {"turns": TURNS, "epochs": EPOCHS, "texts": TEXTS, "ranker": ranker_config().model_dump(mode="json")}
    out.write_text(json.dumps({"figures": found, **provenance(config, 7)}, indent=2) + "\n")


def launched(who: str, ranks: int) -> list[float]:
    """Rates of one run of ``who`` under torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rates.json"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "platform")}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", __file__]
        done = subprocess.run(
            [*command, "--measure", who, "--out", str(out)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{who} failed:\n{done.stderr[-3000:]}")
        rates: list[float] = json.loads(out.read_text())
        return rates


def ranker_config() -> Any:
    """The ranking stage of the demo, without early stopping."""
    from driftline.config import load_config

    overrides = [f"training.epochs={EPOCHS + 1}", f"training.validate_every_epochs={EPOCHS + 1}"]
    return load_config(ROOT / "jobs/configs/demo.yaml", [*overrides, "drift.enabled=false"])


def text_config() -> Any:
    """The text stage of the demo with texts as long as knowledge-graph facts make them."""
    from driftline.config import load_config

    overrides = ["text.max_tokens=160", f"text.epochs={EPOCHS + 1}", "training.num_workers=1"]
    return load_config(ROOT / "jobs/configs/demo.yaml", overrides)


def ranks() -> tuple[int, int]:
    """Join the group that torchrun has announced; this rank and how many there are."""
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(7)
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def ranking_stage(rank: int, world_size: int) -> tuple[Any, Any]:
    """The configuration and the stage that a run would train; random text vectors, which cost the same."""
    import torch

    from driftline.models.build import TEXT_VECTOR_DIM
    from driftline.sequences.dataset import load_dataset
    from driftline.training.checkpoints import Progress, Snapshot
    from driftline.training.stage import Stage, Worker
    from driftline.training.stages import Stages

    class Captured(Stages):
        def _fit(self, stage: Stage) -> None:
            self.stage = stage

    config = ranker_config()
    dataset = load_dataset(config)
    vectors = torch.nn.functional.normalize(torch.randn(len(dataset.catalog.ids), TEXT_VECTOR_DIM), dim=-1)
    snapshot = Snapshot(Progress(world_size=world_size), {"text_vectors": {"vectors": vectors}})
    stages = Captured(config, dataset, Worker(rank, world_size), snapshot, None)
    stages.ranker()
    timed = Timed(stages.stage.sampler, lambda batch: batch.events)
    return config, replace(stages.stage, sampler=timed, validate=lambda: {"nothing": 0.0})


def fitted(config: Any, stage: Any, rank: int, world_size: int) -> list[float]:
    """Driftline's loop over a stage; rates of the epochs after the first."""
    from driftline.training.checkpoints import Progress, Snapshot
    from driftline.training.stage import Worker, fit_stage

    snapshot = Snapshot(Progress(world_size=world_size))
    fit_stage(stage, config.training, Worker(rank, world_size), snapshot, 7)
    rates: list[float] = stage.sampler.rates[1:]
    return rates


def ours() -> list[float]:
    """The ranking stage in Driftline's loop: what a Ray Train worker runs."""
    rank, world_size = ranks()
    return fitted(*ranking_stage(rank, world_size), rank, world_size)


def plain() -> list[float]:
    """The same model, batches, optimiser, clipping and schedule in a loop by hand, with DDP on two ranks."""
    import torch

    rank, world_size = ranks()
    config, stage = ranking_stage(rank, world_size)
    module = stage.module.train()
    wrapped = torch.nn.parallel.DistributedDataParallel(module) if world_size > 1 else module
    training = config.training
    optimiser = torch.optim.AdamW(module.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    steps = (EPOCHS + 1) * stage.sampler.batches_per_epoch(world_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(EPOCHS + 1):
        for batch in stage.sampler.epoch(epoch, rank, world_size):
            optimiser.zero_grad()
            wrapped(batch).total.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), training.deepspeed.gradient_clipping)
            optimiser.step()
            schedule.step()
    rates: list[float] = stage.sampler.rates[1:]
    return rates


def long_texts() -> list[str]:
    """Item texts with facts of the sample's knowledge graph: real sentences of real lengths.

    The sample's links belong to other items (see docs/log.md), so training refuses these texts; here only their lengths
    count.
    """
    from driftline.catalog.graph import facts, read_graph
    from driftline.catalog.items import build_catalog, read_items
    from driftline.columns import Items
    from driftline.sequences.dataset import locate

    config = text_config()
    files = locate(config.data, config.storage)
    items = read_items(files.items).items
    titles = dict(zip(items[Items.ITEM], items[Items.TITLE], strict=True))
    told = facts(read_graph(files.graph, files.links), titles, max_facts=4)
    texts: list[str] = build_catalog(items, told, max_facts_chars=400).texts
    return texts[:TEXTS]


def lengths() -> list[int]:
    """Tokens of the texts: least, tenths, most."""
    import numpy as np

    from driftline.models.build import base_model
    from driftline.models.text_tower import Tokenizer

    config = text_config()
    counts = Tokenizer(base_model(config), config.text.max_tokens)(long_texts()).mask_MT.sum(1).numpy()
    return [int(value) for value in np.percentile(counts, range(0, 101, 10))]


def aligner() -> tuple[Any, Any, Any, list[str]]:
    """Configuration, tower with LoRA in its alignment, tokenizer, texts."""
    import torch

    from driftline.models.build import base_model, build_text_tower
    from driftline.models.text_tower import TextAligner, Tokenizer

    config, texts = text_config(), long_texts()
    factors, eligible = torch.randn(len(texts), 64), torch.ones(len(texts), dtype=torch.bool)
    model = TextAligner(build_text_tower(config, for_training=True), factors, eligible)
    return config, model, Tokenizer(base_model(config), config.text.max_tokens), texts


def ours_text() -> list[float]:
    """The text stage in Driftline's loop: batches of like length."""
    import numpy as np

    from driftline.models.text_sampler import TextSampler
    from driftline.training.stage import Stage

    rank, world_size = ranks()
    config, model, tokenizer, texts = aligner()
    size = config.text.batch_items
    sampler = TextSampler(tokenizer, texts, np.arange(len(texts)), size, 7)
    stage = Stage(
        name="text", module=model, sampler=Timed(sampler, lambda batch: int(batch[0].mask_MT.sum())),
        loss=lambda engine, batch: engine(*batch), counts=lambda batch: {}, ids=lambda batch: [],
        validate=lambda: {"nothing": 0.0}, epochs=EPOCHS + 1, learning_rate=config.text.learning_rate,
        batch_size=size, validate_every_epochs=EPOCHS + 1,
    )  # fmt: skip
    return fitted(config, stage, rank, world_size)


def trainer() -> list[float]:
    """The same model in transformers.Trainer: random batches, padded to their longest text."""
    import torch
    import transformers

    from driftline.models.text_tower import Tokens

    _, model, tokenizer, texts = aligner()
    config = text_config()
    size, rates = config.text.batch_items, list[float]()

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aligner = model

        def forward(self, ids: Any, mask: Any, items: Any) -> dict[str, Any]:
            return {"loss": self.aligner(Tokens(ids, mask), items)}

    class Clock(transformers.TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.started, self.done, self.steps = time.perf_counter(), 0, 0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.steps += 1

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            rates.append(tokens / (time.perf_counter() - self.started))

    def collate(items: list[int]) -> dict[str, Any]:
        batch = tokenizer([texts[item] for item in items])
        return {"ids": batch.ids_MT, "mask": batch.mask_MT, "items": torch.tensor(items)}

    tokens = int(tokenizer(texts).mask_MT.sum())
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, per_device_train_batch_size=size, num_train_epochs=EPOCHS + 1, remove_unused_columns=False,
            learning_rate=config.text.learning_rate, lr_scheduler_type="cosine", weight_decay=0.01, use_cpu=True,
            max_grad_norm=config.training.deepspeed.gradient_clipping, save_strategy="no", report_to=[], seed=7,
            disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        job = transformers.Trainer(
            Wrapped(), arguments, train_dataset=list(range(len(texts))), data_collator=collate, callbacks=[Clock()]
        )
        job.train()
    return rates[1:]


if __name__ == "__main__":
    run_job(main)
