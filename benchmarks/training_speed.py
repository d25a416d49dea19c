"""How fast Driftline trains beside plain PyTorch, transformers.Trainer and RecTools.

python -m benchmarks.training_speed [--rectools PYTHON]

Ratios of throughput on the same model, data and threads: one rank beside a plain PyTorch loop and two ranks beside
DistributedDataParallel (the ranking model of the defaults, all users of MovieLens-100K), both with whole replicas (ZeRO
0); what ZeRO 2 costs on a model that does not need it; and the text tower beside transformers.Trainer with PEFT, which
pads random batches (every fifth item text, with every fact of the knowledge graph). Two threads in all.

The two loops of a comparison live in one process per rank and take turns, batch by batch, so that whatever else the
machine does slows both alike. A turn lasts from one request for a batch to the next and holds everything that the loop
does; the first ones warm up.

RecTools needs older packages than Driftline, so its SASRec (as wide and deep, on the same events) has an environment of
its own, whose interpreter is PYTHON: ``pip install "rectools[torch]"``.
"""

import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from driftline.cli import run_job

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
EPOCHS = 5
TEXT_TOKENS, TEXT_WARM_UP_TURNS, EVERY_TEXT = 512, 5, 5
CORES = 2
RECTOOLS = "RecTools SASRec"
COMPARISONS = {
    # what is compared: (ranks, least ratio that is claimed)
    "one rank / plain PyTorch": (1, 0.97),
    "two ranks / DDP": (2, 0.97),
    "two ranks under ZeRO 2 / DDP": (2, None),
    "text tower / transformers.Trainer": (1, 1.5),
}


@dataclass
class Turns:
    """Two loops in two threads, of which one works at a time."""

    warm_up_turns: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)
    units: dict[str, list[int]] = field(default_factory=dict)
    _batons: dict[str, threading.Semaphore] = field(default_factory=dict)
    _began: tuple[float, float] | None = None

    def play(self, loops: dict[str, Callable[[], None]]) -> dict[str, float]:
        """Run both loops to their ends; units per second of each, without the warm-up.

        Raises
        ------
        RuntimeError
            If one of them fails.
        """
        failures: list[BaseException] = []

        def run(name: str, loop: Callable[[], None]) -> None:
            self._batons[name].acquire()
            try:
                loop()
            except BaseException as error:
                failures.append(error)
            finally:
                self._pass_on(name)
                del self._batons[name]

        for name in loops:
            self._batons[name], self.units[name] = threading.Semaphore(0), []
            self.seconds[name], self.cpu_seconds[name] = [], []
        threads = [threading.Thread(target=run, args=each) for each in loops.items()]
        for thread in threads:
            thread.start()
        next(iter(self._batons.values())).release()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(f"a loop failed: {failures[0]!r}") from failures[0]
        return {name: self._rate(name) for name in loops}

    def next(self, name: str) -> None:
        """A loop asks for a batch: its turn ends, and it waits for the next."""
        if self._began is not None:
            self.seconds[name].append(time.perf_counter() - self._began[0])
            self.cpu_seconds[name].append(time.process_time() - self._began[1])
        self._pass_on(name)
        self._batons[name].acquire()
        self._began = time.perf_counter(), time.process_time()

    def per_epoch(self, seconds: dict[str, list[float]]) -> dict[str, float]:
        """Median over epochs, of which the warm-up is the first; the last turn of a loop is never closed."""
        n = self.warm_up_turns
        epochs = {
            name: [sum(spent[i : i + n]) for i in range(n, len(spent) - n + 2, n)] for name, spent in seconds.items()
        }
        return {name: statistics.median(sums) for name, sums in epochs.items()}

    def _pass_on(self, name: str) -> None:
        self._began = None
        others = [baton for other, baton in self._batons.items() if other != name]
        (others or list(self._batons.values()))[0].release()

    def _rate(self, name: str) -> float:
        every = zip(self.units[name], self.seconds[name], strict=False)  # the last turn of a loop is never closed
        turns = list(every)[self.warm_up_turns :]
        return sum(units for units, _ in turns) / sum(seconds for _, seconds in turns)


@dataclass
class Alternating:
    """A sampler whose epochs give way to the other loop before every batch."""

    sampler: Any
    turns: Turns
    name: str
    count: Callable[[Any], int]

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """As the sampler says."""
        return int(self.sampler.batches_per_epoch(world_size))

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1, start: int = 0) -> Iterator[Any]:
        """The sampler's batches."""
        batches = self.sampler.epoch(epoch, rank, world_size, start)
        for _ in range(self.batches_per_epoch(world_size) - start):
            self.turns.next(self.name)
            batch = next(batches)
            self.turns.units[self.name].append(self.count(batch))
            yield batch


def main(
    measure: Annotated[str | None, typer.Option(help="Used by the benchmark itself: what a process measures.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Comparisons to measure anew; the others stay.")] = None,
    rectools: Annotated[Path | None, typer.Option(help="Python interpreter that has RecTools.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS / "training-speed.json",
) -> None:
    """Measure all comparisons and write them down."""
    if measure is not None:
        rates = MEASURES[measure]()
        if int(os.environ["RANK"]) == 0:
            out.write_text(json.dumps(rates))
        return
    from driftline.evaluation.provenance import provenance

    console = Console(highlight=False)
    found: dict[str, Any] = json.loads(out.read_text())["figures"] if only else {}
    for name, (ranks, claim) in COMPARISONS.items():
        if only and name not in only:
            continue
        figures = launched(name, ranks)
        rates = figures["units_per_s"]
        found[name] = figures | {"ratio": rates["driftline"] / rates["peer"], "claim": claim}
        claimed = f" (claim: at least {claim})" if claim else ""
        seconds = {key: value for key, value in figures.items() if key != "units_per_s"}
        console.print(f"[bold]{name}: {found[name]['ratio']:.3f}[/bold]{claimed} {json.dumps(seconds)}")
    if rectools is not None:
        found[RECTOOLS] = sasrec(rectools)
        console.print(f"{RECTOOLS}: {found[RECTOOLS]}")
    found["text lengths, tokens"] = lengths()
    console.print(f"text lengths in tokens, by tenths: {found['text lengths, tokens']}")
    config = {"epochs": EPOCHS, "ranker": ranker_config(0).model_dump(mode="json")}
    out.write_text(json.dumps({"figures": found, **provenance(config, 7)}, indent=2) + "\n")


def launched(name: str, ranks: int) -> dict[str, Any]:
    """Figures of one comparison under torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rates.json"
        threads = {"OMP_NUM_THREADS": str(CORES // ranks), "OMP_WAIT_POLICY": "passive"}  # the other loop's are idle
        environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT / "platform")}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", __file__]
        done = subprocess.run(
            [*command, "--measure", name, "--out", str(out)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-3000:]}")
        figures: dict[str, Any] = json.loads(out.read_text())
        return figures


def sasrec(python: Path) -> dict[str, Any]:
    """Seconds per epoch of RecTools' SASRec, as its own process measures them."""
    from driftline.sequences.dataset import locate

    config = ranker_config(0)
    encoder = config.encoder.model_dump(include={"dim", "layers", "heads", "window_events", "dropout"})
    with tempfile.TemporaryDirectory() as folder:  # beside the checkout, lightning would leave its logs in it
        done = subprocess.run(
            [python, ROOT / "benchmarks/rectools_epoch.py", locate(config.data, config.storage).interactions,
             json.dumps(encoder)],
            cwd=folder, env={**os.environ, "OMP_NUM_THREADS": str(CORES)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{RECTOOLS} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def ranker_config(zero_stage: int) -> Any:
    """The ranking stage of the demo for all users, without early stopping."""
    from driftline.config import load_config

    overrides = [f"training.epochs={EPOCHS + 1}", f"training.validate_every_epochs={EPOCHS + 1}"]
    overrides += [
        f"training.deepspeed.zero_stage={zero_stage}",
        "drift.enabled=false",
        "ranking.exclude_held_out=false",
    ]
    return load_config(ROOT / "jobs/configs/demo.yaml", overrides)


def text_config() -> Any:
    """The text stage of the demo with texts as long as knowledge-graph facts make them."""
    from driftline.config import load_config

    overrides = [f"text.max_tokens={TEXT_TOKENS}", "training.num_workers=1", "training.deepspeed.zero_stage=0"]
    return load_config(ROOT / "jobs/configs/demo.yaml", overrides)


def ranks() -> tuple[int, int]:
    """Join the group that torchrun has announced; this rank and how many there are."""
    import torch

    torch.distributed.init_process_group("gloo")
    torch.manual_seed(7)
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.set_num_threads(CORES // world_size)
    return rank, world_size


def ranking_stage(rank: int, world_size: int, zero_stage: int = 0) -> tuple[Any, Any]:
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

    config = ranker_config(zero_stage)
    dataset = load_dataset(config)
    vectors = torch.nn.functional.normalize(torch.randn(len(dataset.catalog.ids), TEXT_VECTOR_DIM), dim=-1)
    snapshot = Snapshot(Progress(world_size=world_size), {"text_vectors": {"vectors": vectors}})
    stages = Captured(config, dataset, Worker(rank, world_size), snapshot, None)
    stages.ranker()
    return config, replace(stages.stage, validate=lambda: {"nothing": 0.0})


def fitted(config: Any, stage: Any, rank: int, world_size: int) -> None:
    """Driftline's loop over a stage: what a Ray Train worker runs."""
    from driftline.training.checkpoints import Progress, Snapshot
    from driftline.training.stage import Worker, fit_stage

    fit_stage(stage, config.training, Worker(rank, world_size), Snapshot(Progress(world_size=world_size)), 7)


def ranking(zero_stage: int) -> dict[str, Any]:
    """The ranking stage in Driftline's loop and in a loop by hand, on the same batches."""
    rank, world_size = ranks()
    config, stage = ranking_stage(rank, world_size, zero_stage)
    turns = Turns(warm_up_turns=stage.sampler.batches_per_epoch(world_size))

    def alternating(name: str) -> Any:
        sampler = Alternating(stage.sampler, turns, name, lambda batch: batch.events * world_size)
        return replace(stage, sampler=sampler, module=copy.deepcopy(stage.module))

    ours, theirs = alternating("driftline"), alternating("peer")
    rates = turns.play(
        {
            "driftline": lambda: fitted(config, ours, rank, world_size),
            "peer": lambda: plain(config, theirs, rank, world_size),
        }
    )
    return {
        "units_per_s": rates,
        "s_per_epoch": turns.per_epoch(turns.seconds),
        "cpu_s_per_epoch": turns.per_epoch(turns.cpu_seconds),
    }


def plain(config: Any, stage: Any, rank: int, world_size: int) -> None:
    """The same model, batches, optimiser, clipping and schedule in a loop by hand, with DDP on two ranks."""
    import torch

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


def long_texts() -> list[str]:
    """Item texts with all facts of the sample's knowledge graph: real sentences of real lengths.

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
    everything = 10**6
    told = facts(read_graph(files.graph, files.links), titles, max_facts=everything)
    texts: list[str] = build_catalog(items, told, max_facts_chars=everything).texts
    return texts


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

    config, texts = text_config(), long_texts()[::EVERY_TEXT]
    factors, eligible = torch.randn(len(texts), 64), torch.ones(len(texts), dtype=torch.bool)
    model = TextAligner(build_text_tower(config, for_training=True), factors, eligible)
    return config, model, Tokenizer(base_model(config), config.text.max_tokens), texts


def text() -> dict[str, Any]:
    """The text stage in Driftline's loop and in transformers.Trainer."""
    rank, world_size = ranks()
    config, model, tokenizer, texts = aligner()
    turns = Turns(TEXT_WARM_UP_TURNS)
    theirs = copy.deepcopy(model)
    rates = turns.play(
        {
            "driftline": lambda: fitted(config, text_stage(config, model, tokenizer, texts, turns), rank, world_size),
            "peer": lambda: trainer(config, theirs, tokenizer, texts, turns),
        }
    )
    return {"units_per_s": rates}


def text_stage(config: Any, model: Any, tokenizer: Any, texts: list[str], turns: Turns) -> Any:
    """Driftline's text stage: batches of like length."""
    import numpy as np

    from driftline.models.text_sampler import TextSampler
    from driftline.training.stage import Stage

    size = config.text.batch_items
    sampler = TextSampler(tokenizer, texts, np.arange(len(texts)), size, 7)
    return Stage(
        name="text", module=model, loss=lambda engine, batch: engine(*batch),
        sampler=Alternating(sampler, turns, "driftline", lambda batch: int(batch[0].mask_MT.sum())),
        counts=lambda batch: {}, ids=lambda batch: [], validate=lambda: {"nothing": 0.0}, epochs=1,
        learning_rate=config.text.learning_rate, batch_size=size,
    )  # fmt: skip


def trainer(config: Any, model: Any, tokenizer: Any, texts: list[str], turns: Turns) -> None:
    """The same model in transformers.Trainer: random batches, padded to their longest text."""
    import torch
    import transformers

    from driftline.models.text_tower import Tokens

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aligner = model

        def forward(self, ids: Any, mask: Any, items: Any) -> dict[str, Any]:
            return {"loss": self.aligner(Tokens(ids, mask), items)}

    def collate(items: list[int]) -> dict[str, Any]:
        turns.next("peer")
        batch = tokenizer([texts[item] for item in items])
        turns.units["peer"].append(int(batch.mask_MT.sum()))
        return {"ids": batch.ids_MT, "mask": batch.mask_MT, "items": torch.tensor(items)}

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, per_device_train_batch_size=config.text.batch_items, num_train_epochs=1,
            remove_unused_columns=False, learning_rate=config.text.learning_rate, lr_scheduler_type="cosine",
            weight_decay=config.training.weight_decay, use_cpu=True, save_strategy="no", report_to=[], seed=7,
            max_grad_norm=config.training.deepspeed.gradient_clipping, disable_tqdm=True, logging_strategy="no",
            ddp_find_unused_parameters=False,
        )  # fmt: skip
        transformers.Trainer(Wrapped(), arguments, train_dataset=list(range(len(texts))), data_collator=collate).train()


MEASURES = {
    "one rank / plain PyTorch": lambda: ranking(0),
    "two ranks / DDP": lambda: ranking(0),
    "two ranks under ZeRO 2 / DDP": lambda: ranking(2),
    "text tower / transformers.Trainer": text,
}

if __name__ == "__main__":
    run_job(main)
