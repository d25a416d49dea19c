"""Memory of a log that fits in no memory: generate, ingest with Ray Data, stream one epoch into two workers.

python benchmarks/ingest_memory.py --events 10000000

Claim: each worker's peak resident memory is at most 2 GB above what it is with the model built and nothing read. The
workers are plain processes with gloo (what Ray Train starts, without Ray's own processes), and train the ranking model
with DistributedDataParallel. Where training a whole epoch takes longer than --train-minutes, they go on reading and
building batches to its end; the report says how many events were trained on.
"""

import json
import os
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console

from driftline.cli import run_job
from driftline.events.histories import Ingested, open_ingested
from driftline.terminal import working

RESULTS = Path(__file__).resolve().parent / "results"
LIMIT_BYTES = 2 * 10**9
WORKERS = 2
MB = 10**6


@dataclass(frozen=True)
class Settings:
    """What one run of the benchmark is made of."""

    events: int
    users: int
    items: int
    seed: int
    train_minutes: float
    dim: int = 32
    layers: int = 1
    window_events: int = 100
    batch_users: int = 64


def main(
    events: Annotated[int, typer.Option(help="Events of the synthetic log.")] = 10_000_000,
    users: Annotated[int, typer.Option(help="People in it.")] = 200_000,
    items: Annotated[int, typer.Option(help="Items in it; training scores all of them at every event.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the log and of the epoch.")] = 7,
    train_minutes: Annotated[float, typer.Option(help="Then the epoch is only read, not trained on.")] = 30.0,
    folder: Annotated[Path | None, typer.Option(help="Keep log and histories here; default: a temporary one.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS / "ingest-memory.json",
) -> None:
    """Measure peak memory of the generator, of the ingest and of every worker."""
    from driftline.evaluation.provenance import provenance

    settings, console = Settings(events, users, items, seed, train_minutes), Console()
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        figures: dict[str, Any] = {"generate": _generate(settings, place, console)}
        ingested, figures["ingest"] = _ingest(place, console)
        figures["workers"] = _epoch(settings, ingested, console)
    above = max(worker["peak_above_model_mb"] for worker in figures["workers"])
    figures["claim"] = {"peak_above_model_mb": above, "limit_mb": LIMIT_BYTES // MB, "holds": above * MB <= LIMIT_BYTES}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures | provenance(asdict(settings), seed), indent=2) + "\n")
    console.print_json(data=figures)
    console.print(f"figures {out}", soft_wrap=True, highlight=False)
    if not figures["claim"]["holds"]:
        raise SystemExit(1)


def _generate(settings: Settings, place: Path, console: Console) -> dict[str, Any]:
    """Write the log, unless a kept folder has it."""
    from driftline.events.synthetic import write_synthetic_log

    if (place / "log").is_dir():
        return {"reused": True}
    began = time.monotonic()
    with working(console, "generating events") as tell:
        write_synthetic_log(
            place / "log",
            settings.events,
            settings.users,
            settings.items,
            settings.seed,
            drifting_share=0.1,
            tell=lambda done, total: tell(f"generating events: {done:,} of {total:,}"),
        )
    return {"seconds": round(time.monotonic() - began, 1), "peak_mb": _peak_bytes() // MB}


def _ingest(place: Path, console: Console) -> tuple[Ingested, dict[str, Any]]:
    """Ingest in a Ray of two CPUs and 1 GB of object store."""
    import ray

    from driftline.events.ingest import ingest

    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(address="local", num_cpus=WORKERS, object_store_memory=10**9, log_to_driver=False, logging_level="ERROR")
    began = time.monotonic()
    with _Watch() as watch:
        ingested = ingest(place / "log" / "events", {}, place / "storage", 0.01, console)
    seconds = time.monotonic() - began
    ray.shutdown()
    return ingested, {
        "seconds": round(seconds, 1),
        "events": ingested.report["events"],
        "users": ingested.report["users"],
        "object_store_mb": 1000,
        "peak_all_processes_mb": watch.peak_total // MB,
        "peak_largest_process_mb": watch.peak_process // MB,
        "megabytes_on_disk": sum(path.stat().st_size for path in ingested.folder.rglob("*")) // MB,
    }


class _Watch:
    """Peak unshared memory of this process and its children, sampled twice a second."""

    def __init__(self) -> None:
        self.peak_total = self.peak_process = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(0.5):
            sizes = []
            for process in [own, *own.children(recursive=True)]:
                try:
                    memory = process.memory_info()
                except psutil.NoSuchProcess:  # it ended since it was listed
                    continue
                sizes.append(memory.rss - memory.shared)
            self.peak_total = max(self.peak_total, sum(sizes))
            self.peak_process = max(self.peak_process, *sizes)


def _epoch(settings: Settings, ingested: Ingested, console: Console) -> list[dict[str, Any]]:
    """One epoch in two processes; figures of each."""
    import torch.multiprocessing as mp

    with tempfile.TemporaryDirectory() as temporary, working(console, "streaming one epoch") as tell:
        context = mp.start_processes(
            _worker,
            (asdict(settings), str(ingested.folder), temporary),
            nprocs=WORKERS,
            join=False,
            start_method="spawn",
        )
        progress = Path(temporary) / "progress"
        while not context.join(timeout=1):
            if progress.exists():
                tell(f"streaming one epoch: {progress.read_text()}")
        return [json.loads((Path(temporary) / f"{rank}.json").read_text()) for rank in range(WORKERS)]


def _worker(rank: int, options: dict[str, Any], folder: str, results: str) -> None:
    import torch
    import torch.distributed as dist

    from driftline.sequences.stream import StreamSampler

    settings = Settings(**options)
    torch.set_num_threads(1)
    store = dist.FileStore(f"{results}/store", WORKERS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORKERS)
    model, optimiser = _model(settings)
    model_bytes = psutil.Process().memory_info().rss
    stream = StreamSampler(
        open_ingested(Path(folder)),
        np.arange(settings.items),
        settings.window_events,
        settings.batch_users,
        settings.seed,
    )
    steps = stream.batches_per_epoch(WORKERS)
    until = time.monotonic() + 60 * settings.train_minutes
    trained = events = trained_events = slots = 0
    peak_at = {}
    began = time.monotonic()
    train_seconds = 0.0
    is_training = True
    for step, batch in enumerate(stream.epoch(0, rank, WORKERS)):
        events, slots = events + batch.events, slots + batch.mask_BL.numel()
        if is_training:
            model(batch).total.backward()
            optimiser.step()
            optimiser.zero_grad()
            trained, trained_events = trained + 1, trained_events + batch.events
            train_seconds = time.monotonic() - began
            # both ranks stop at the same step, or one would wait for the other's gradients for ever
            if step % 20 == 19:
                late = torch.tensor(float(time.monotonic() > until))
                dist.all_reduce(late)
                is_training = not late
        if rank == 0 and step % 50 == 0:
            Path(f"{results}/progress").write_text(f"{step:,} of {steps:,} steps, {trained:,} of them trained")
        if step in (steps // 10, steps // 2, steps - 1):
            peak_at[f"{round(100 * (step + 1) / steps)} % of the epoch"] = _peak_bytes() // MB
    seconds = time.monotonic() - began
    figures = {
        "rank": rank,
        "steps": steps,
        "events_in_batches": events,
        "share_of_slots_that_are_events": round(events / slots, 4),
        "steps_trained": trained,
        "events_trained": trained_events,
        "trained_events_per_s": round(trained_events / train_seconds) if trained else None,
        "read_only_events_per_s": round((events - trained_events) / (seconds - train_seconds))
        if trained < steps
        else None,
        "seconds": round(seconds, 1),
        "with_model_mb": model_bytes // MB,
        "peak_mb": peak_at,
        "peak_above_model_mb": (_peak_bytes() - model_bytes) // MB,
    }
    Path(f"{results}/{rank}.json").write_text(json.dumps(figures))
    dist.barrier()
    dist.destroy_process_group()


def _model(settings: Settings) -> Any:
    """The ranking model over random text vectors, in DistributedDataParallel, and its optimiser."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from driftline.config import EncoderConfig, HeadsConfig
    from driftline.models.item_table import ItemTable
    from driftline.models.recommender import Recommender
    from driftline.models.user_encoder import UserEncoder

    torch.manual_seed(settings.seed)
    encoder = EncoderConfig(dim=settings.dim, layers=settings.layers, window_events=settings.window_events)
    known_N = torch.ones(settings.items, dtype=torch.bool)
    items = ItemTable(torch.randn(settings.items, 64), known_N, settings.dim, encoder.id_dropout)
    model = Recommender(items, UserEncoder(encoder), HeadsConfig(rating=0.0), mask_seen=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return DistributedDataParallel(model), optimiser


def _peak_bytes() -> int:
    """Largest resident size of this process so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    run_job(main)
