"""How fast the service answers, beside a service that does nothing and beside a cross-encoder.

python -m benchmarks.serving_load --bundle DIR        (needs wrk and hey: apt-get install wrk hey)

- ``/v1/recommend`` for users with 50 events beside a no-op of the same topology and sizes (benchmarks/serving_noop.py),
  both behind HAProxy, one running at a time, Driftline before and after: latency of one connection, throughput when
  saturated, the tail at half of it;
- ``/v1/rank`` of 100 candidates, HTTP included, beside a MiniLM-L6 cross-encoder on the same texts and one thread;
- ``/v1/events`` in batches of 100 on SQLite, acknowledged after the commit;
- with ``--large``, the same lists from a catalogue of 200,000 items.
"""

import json
import os
import pickle
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
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
from driftline.serving.calls import Ranking, question_of
from driftline.serving.keys import create_key
from driftline.serving.local_service import LocalService
from driftline.serving.user_views import view_of
from driftline.state.store import Store
from driftline.state.tables import events

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "serving-load.json"
USERS, USERS_OF_LARGE, HISTORY, K, CANDIDATES = 100, 20, 50, 10, 100
TURNS, SECONDS, SATURATING = 3, 5, 16
WRITERS, WRITING = 1000, 4


class Noop(LocalService):
    """The service that does nothing, with messages of given sizes."""

    sizes = Sizes()

    def _command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.serving_noop", str(port), self.sizes.model_dump_json()]


def main(
    bundle: Annotated[Path, typer.Option(help="Directory of the bundle to serve; ML-100K for the stated figures.")],
    large: Annotated[
        Path | None, typer.Option(help="A bundle of benchmarks.synthetic_bundle, to see what a long catalogue costs.")
    ] = None,
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS,
) -> None:
    """Measure everything and write it down."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    console, found, ours, theirs = Console(highlight=False), dict[str, Any](), Runs(), Runs()
    with TemporaryDirectory(prefix="driftline-load-") as name:
        folder = Path(name)
        with LocalService(bundle, folder / "driftline") as service:
            key = create_key(Store(service.database), "default", "load", ["read", "write"])
            client = _client(service, key)
            users = _settle(client, bundle, USERS)
            Noop.sizes = _sizes(client, service, bundle, users)
            console.print(f"bytes of one request's messages: {Noop.sizes}")
            bodies = [json.dumps({"user_id": user, "k": K}) for user in users]
            target = Target(service.url, key, bodies, folder)
            ours.add("driftline", target, console)
            half = _half_load(target, ours, console)
            found["rank"] = _against_cross_encoder(client, bundle, users[0], console)
        with Noop(bundle, folder / "noop") as noop:
            theirs.add("no-op", Target(noop.url, key, bodies, folder), console)
        with LocalService(bundle, folder / "driftline") as service:
            ours.add("driftline", Target(service.url, key, bodies, folder), console)
            found["events"] = _events(service, key, driftline.load(bundle).item_ids, folder, console)
        found["recommend"] = _compared(ours, theirs, console) | half
        _write(found, bundle, out)
        if large is not None:
            found["large_catalogue"] = _large(large, folder, ours, console)
            _write(found, bundle, out)
    console.print(f"figures {out}")


def _write(found: dict[str, Any], bundle: Path, out: Path) -> None:
    config = {"users": USERS, "history_events": HISTORY, "k": K, "bundle": bundle.name, "connections": SATURATING}
    out.write_text(json.dumps({"figures": found, **provenance(config, 7)}, indent=2) + "\n")


@dataclass(frozen=True)
class Target:
    """A service, and what to ask it."""

    url: str
    key: str
    bodies: list[str]
    folder: Path

    def load(self, connections: int) -> Load:
        """One turn of wrk."""
        return wrk(f"{self.url}/v1/recommend", self.key, self.bodies, self.folder, connections, SECONDS)


@dataclass
class Runs:
    """Turns by number of connections."""

    alone: list[Load] = field(default_factory=list)
    saturated: list[Load] = field(default_factory=list)

    def add(self, name: str, target: Target, console: Console) -> None:
        """Measure a service; the first turn of each kind warms up."""
        for connections, loads in ((1, self.alone), (SATURATING, self.saturated)):
            for turn in range(TURNS + 1):
                load = target.load(connections)
                console.print(f"{name}, {connections} connections: {load}")
                if turn:
                    loads.append(load)

    @property
    def p50_ms(self) -> float:
        """Of one connection; median over the turns."""
        return statistics.median(load.p50_ms for load in self.alone)

    @property
    def requests_per_s(self) -> float:
        """Saturated; median over the turns."""
        return statistics.median(load.requests_per_s for load in self.saturated)

    @property
    def failed(self) -> int:
        """Requests that were not answered by 200."""
        return sum(load.failed for load in self.alone + self.saturated)


def _client(service: LocalService, key: str) -> httpx.Client:
    return httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def _settle(client: httpx.Client, bundle: Path, number_of_users: int) -> list[str]:
    """Users with random histories whose drift state is up to date, so that the load is the steady state's."""
    items, rng = driftline.load(bundle).item_ids, np.random.default_rng(7)
    users = [f"user-{number}" for number in range(number_of_users)]
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
    sent = replace(made, drift=made.drift and made.drift.verdict)  # as the Ranker does
    ranking = len(pickle.dumps(Ranking(sent, bundle.name, drift_used=True)))
    return Sizes(
        view=len(pickle.dumps(view)), question=len(pickle.dumps(question)), ranking=ranking,
        answer=len(answer.content), record=ranking,
    )  # fmt: skip


def _half_load(target: Target, ours: Runs, console: Console) -> dict[str, Any]:
    """The tail at half of what saturates."""
    url = f"{target.url}/v1/recommend"
    load = hey(url, target.key, target.bodies[0], ours.requests_per_s / 2, 20)
    ratio = load.p99_ms / load.p50_ms
    console.print(f"[bold]at half load: {load}; p99 is {ratio:.1f} x p50 (claim: at most 5)")
    figures = {"requests_per_s": load.requests_per_s, "p50_ms": load.p50_ms, "p99_ms": load.p99_ms}
    return {"half_load": figures | {"failed": load.failed}, "p99_over_p50": ratio}


def _compared(ours: Runs, theirs: Runs, console: Console) -> dict[str, Any]:
    """Beside the no-op. One service runs at a time: the idle daemons of another would be paid for by both."""
    added, ratio = ours.p50_ms - theirs.p50_ms, ours.requests_per_s / theirs.requests_per_s
    console.print(
        f"[bold]recommend: p50 {ours.p50_ms:.1f} ms, {added:.1f} ms above the no-op (claim: at most 6); "
        f"{ours.requests_per_s:.0f}/s, {ratio:.2f} of the no-op (claim: at least .5); {ours.failed} failed"
    )
    return {
        "p50_ms": {"driftline": ours.p50_ms, "noop": theirs.p50_ms}, "added_ms": added,
        "requests_per_s": {"driftline": ours.requests_per_s, "noop": theirs.requests_per_s},
        "throughput_ratio": ratio, "failed": ours.failed,
    }  # fmt: skip


def _large(bundle: Path, folder: Path, ours: Runs, console: Console) -> dict[str, Any]:
    runs = Runs()
    with LocalService(bundle, folder / "large") as service:
        key = create_key(Store(service.database), "default", "load", ["read", "write"])
        users = _settle(_client(service, key), bundle, USERS_OF_LARGE)
        bodies = [json.dumps({"user_id": user, "k": K}) for user in users]
        runs.add(bundle.name, Target(service.url, key, bodies, folder), console)
    ratio = runs.p50_ms / ours.p50_ms
    console.print(f"[bold]{bundle.name}: p50 {runs.p50_ms:.1f} ms, {ratio:.2f} x the other's (claim: at most 3)")
    figures = {"bundle": bundle.name, "p50_ms": runs.p50_ms, "requests_per_s": runs.requests_per_s}
    return figures | {"p50_ratio": ratio, "failed": runs.failed}


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
