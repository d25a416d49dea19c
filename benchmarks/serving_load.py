"""How fast the service answers, beside a service that does nothing and beside a cross-encoder.

python -m benchmarks.serving_load --bundle DIR        (needs wrk and hey: apt-get install wrk hey)

- ``/v1/recommend`` for users with 50 events beside a no-op of the same topology and sizes (benchmarks/serving_noop.py),
  both behind HAProxy, measured in turns: latency of one connection, throughput when saturated, the tail at half of it;
- ``/v1/rank`` of 100 candidates, HTTP included, beside a MiniLM-L6 cross-encoder on the same texts and one thread;
- ``/v1/events`` in batches of 100 on SQLite, acknowledged after the commit.
"""

import json
import os
import pickle
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from benchmarks.load_clients import Load, hey, wrk, wrk_events
from benchmarks.serving_noop import Sizes
from rich.console import Console
from sqlalchemy import func, select

import driftline
from driftline.cli import run_job
from driftline.evaluation.provenance import provenance
from driftline.serving.calls import question_of
from driftline.serving.keys import create_key
from driftline.serving.local_service import LocalService
from driftline.serving.user_views import view_of
from driftline.state.store import Store
from driftline.state.tables import events

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "serving-load.json"
USERS, HISTORY, K, CANDIDATES = 100, 50, 10, 100
TURNS, SECONDS, SATURATING = 3, 6, 16
WRITERS, WRITING = 1000, 4


class Noop(LocalService):
    """The service that does nothing, with messages of given sizes."""

    sizes = Sizes()

    def _command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.serving_noop", str(port), self.sizes.model_dump_json()]


def main(
    bundle: Annotated[Path, typer.Option(help="Directory of the bundle to serve; ML-100K for the stated figures.")],
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS,
) -> None:
    """Measure everything and write it down."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    console, found = Console(highlight=False), dict[str, Any]()
    with (
        TemporaryDirectory(prefix="driftline-load-") as folder,
        LocalService(bundle, Path(folder) / "driftline") as service,
    ):
        key = create_key(Store(service.database), "default", "load", ["read", "write"])
        client = httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
        users = _settle(client, bundle)
        Noop.sizes = _sizes(client, service, bundle, users)
        console.print(f"bytes of one request's messages: {Noop.sizes}")
        bodies = [json.dumps({"user_id": user, "k": K}) for user in users]
        with Noop(bundle, Path(folder) / "noop") as noop:
            found["recommend"] = _against_noop(service.url, noop.url, key, bodies, Path(folder), console)
        found["rank"] = _against_cross_encoder(client, bundle, users[0], console)
        found["events"] = _events(service, key, driftline.load(bundle).item_ids, Path(folder), console)
    config = {"users": USERS, "history_events": HISTORY, "k": K, "bundle": bundle.name, "connections": SATURATING}
    out.write_text(json.dumps({"figures": found, **provenance(config, 7)}, indent=2) + "\n")
    console.print(f"figures {out}")


def _settle(client: httpx.Client, bundle: Path) -> list[str]:
    """Users with random histories whose drift state is up to date, so that the load is the steady state's."""
    items, rng = driftline.load(bundle).item_ids, np.random.default_rng(7)
    users = [f"user-{number}" for number in range(USERS)]
    for user in users:
        rows = [
            {"event_id": f"{user}-{n}", "user_id": user, "item_id": items[i], "type": "view", "timestamp": 1e9 + 60 * n}
            for n, i in enumerate(rng.choice(len(items), HISTORY, replace=False).tolist())
        ]
        client.post("/v1/events", json=rows).raise_for_status()
    for user in users:
        while client.get(f"/v1/users/{user}").raise_for_status().json()["drift"]["status"] != "current":
            time.sleep(0.2)
    return users


def _sizes(client: httpx.Client, service: LocalService, bundle: Path, users: list[str]) -> Sizes:
    """What the deployments hand each other for one request, as Ray pickles it."""
    view = view_of(Store(service.database).snapshot("default", users[0], 1000))
    question = question_of("default", users[0], view)
    made = driftline.load(bundle).recommend(question.history, k=K)
    answer = client.post("/v1/recommend", json={"user_id": users[0], "k": K}).raise_for_status()
    ranking = len(pickle.dumps(made))
    return Sizes(
        view=len(pickle.dumps(view)), question=len(pickle.dumps(question)), ranking=ranking,
        answer=len(answer.content), record=ranking,
    )  # fmt: skip


def _against_noop(url: str, noop: str, key: str, bodies: list[str], folder: Path, console: Console) -> dict[str, Any]:
    targets = {"driftline": f"{url}/v1/recommend", "noop": f"{noop}/v1/recommend"}
    runs: dict[str, dict[int, list[Load]]] = {name: {1: [], SATURATING: []} for name in targets}
    for connections in (1, SATURATING):
        for turn in range(TURNS + 1):  # the first warms up
            for name, target in targets.items():
                load = wrk(target, key, bodies, folder, connections, SECONDS)
                console.print(f"{name}, {connections} connections: {load}")
                if turn:
                    runs[name][connections].append(load)
    p50 = {name: statistics.median(load.p50_ms for load in runs[name][1]) for name in targets}
    rate = {name: statistics.median(load.requests_per_s for load in runs[name][SATURATING]) for name in targets}
    half = hey(targets["driftline"], key, bodies[0], rate["driftline"] / 2, 20)
    failed = sum(load.failed for loads in runs.values() for each in loads.values() for load in each) + half.failed
    found = {
        "p50_ms": p50, "added_ms": p50["driftline"] - p50["noop"], "requests_per_s": rate,
        "throughput_ratio": rate["driftline"] / rate["noop"], "failed": failed,
        "half_load": {"requests_per_s": half.requests_per_s, "p50_ms": half.p50_ms, "p99_ms": half.p99_ms},
        "p99_over_p50": half.p99_ms / half.p50_ms,
    }  # fmt: skip
    console.print(
        f"[bold]recommend: p50 {p50['driftline']:.1f} ms, {found['added_ms']:.1f} ms above the no-op (claim: at most "
        f"6); {rate['driftline']:.0f}/s, {found['throughput_ratio']:.2f} of the no-op (claim: at least .5); at half "
        f"load p99 is {found['p99_over_p50']:.1f} x p50 (claim: at most 5); {failed} failed"
    )
    return found


def _against_cross_encoder(client: httpx.Client, bundle: Path, user: str, console: Console) -> dict[str, float]:
    """An untrained head on the encoder of MiniLM-L6: weights do not matter for time."""
    import torch
    import transformers

    model = driftline.load(bundle)
    candidates = model.item_ids[:CANDIDATES]
    ours = []
    for _ in range(50):
        started = time.perf_counter()
        client.post("/v1/rank", json={"user_id": user, "candidates": candidates}).raise_for_status()
        ours.append(time.perf_counter() - started)
    torch.set_num_threads(1)
    shape = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=1
    )  # of MiniLM-L6-H384
    encoder = transformers.BertForSequenceClassification(shape).eval()
    texts = [model.catalog.texts[model.catalog.index[item]] for item in candidates]
    query = " ".join(texts[:5])  # what a cross-encoder would be told of the user
    ids = torch.randint(1000, 30000, (CANDIDATES, _tokens(query) + max(_tokens(text) for text in texts)))
    theirs = []
    with torch.no_grad():
        for _ in range(3):
            started = time.perf_counter()
            encoder(input_ids=ids)
            theirs.append(time.perf_counter() - started)
    found = {"ours_s": statistics.median(ours), "cross_encoder_s": statistics.median(theirs)}
    found["ratio"] = found["cross_encoder_s"] / found["ours_s"]
    console.print(
        f"[bold]rank of {CANDIDATES}: {found['ratio']:.0f} x faster than a cross-encoder (claim: at least 100)"
    )
    return found


def _tokens(text: str) -> int:
    """Word pieces of English are about 1.3 a word."""
    return round(1.3 * len(text.split())) + 2


def _events(service: LocalService, key: str, items: list[str], folder: Path, console: Console) -> dict[str, Any]:
    """Batches of 100 from four connections, and afterwards: is every acknowledged event in the database?"""
    runs = []
    for _ in range(TURNS):
        before = _count_events(service)
        load = wrk_events(f"{service.url}/v1/events", key, WRITERS, items, folder, WRITING, SECONDS)
        acknowledged = round(100 * load.requests_per_s * SECONDS)
        console.print(f"events: {load}, {_count_events(service) - before} stored, about {acknowledged} acknowledged")
        runs.append(load)
    rate = 100 * statistics.median(load.requests_per_s for load in runs)
    console.print(f"[bold]events: {rate:,.0f}/s, durable, in batches of 100 (claim: at least 3,000)")
    p50 = statistics.median(load.p50_ms for load in runs)
    return {"events_per_s": rate, "batch_p50_ms": p50, "failed": sum(load.failed for load in runs)}


def _count_events(service: LocalService) -> int:
    store = Store(service.database)
    with store.engine.begin() as connection:
        count = connection.scalar(select(func.count()).select_from(events))
    store.close()
    return int(count or 0)


if __name__ == "__main__":
    run_job(main)
