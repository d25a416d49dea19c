"""What a client notices when parts of the service are killed under load.

python -m benchmarks.serving_chaos --bundle DIR

Two tenants write events and ask for lists with ``driftline.client``, which repeats what can be repeated, while Ranker,
DriftDetector, Router and UserState replicas get SIGKILL and bundles are promoted. Then every acknowledged event is
looked up in the database. An answer counts as wrong if it is neither the right one nor a clear error: here every call
must succeed in the end, and every list must be for a bundle that was promoted and hold no item of the other tenant.
"""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import psutil
import typer
from rich.console import Console
from rich.table import Table

import driftline
from driftline.cli import run_job
from driftline.client import Client, ClientError, Event, RetryPolicy
from driftline.evaluation.provenance import provenance
from driftline.serving.keys import create_key
from driftline.serving.local_service import LocalService
from driftline.state.store import Store

RESULTS = Path(__file__).resolve().parent / "results" / "serving-chaos.json"
TENANTS = ("acme", "other")
DEPLOYMENTS = ("Ranker", "DriftDetector", "Router", "UserState")
SETTLE_S, RECOVERY_TIMEOUT_S = 10.0, 180.0
PATIENT = RetryPolicy(deadline_seconds=240, attempt_seconds=30, max_attempts=200)


@dataclass
class Traffic:
    """One tenant's writer and reader, each with its own client, until told to stop."""

    tenant: str
    url: str
    key: str
    items: list[str]
    stopped: threading.Event
    acknowledged: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def start(self) -> list[threading.Thread]:
        """Begin; the threads end after ``stopped``."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in threads:
            thread.start()
        return threads

    def _write(self) -> None:
        number = 0
        with Client(self.url, self.key, retries=PATIENT) as client:
            while not self.stopped.is_set():
                rows = [
                    Event(
                        event_id=f"{self.tenant}-{number + n}", user_id=f"user-{n}", type="view",
                        item_id=self.items[(number + n) % len(self.items)], timestamp=1e9 + number,
                    )
                    for n in range(10)
                ]  # fmt: skip
                number += len(rows)
                self._timed("events", lambda rows=rows: self._keep(client.events.add(rows)))

    def _keep(self, outcome: Any) -> None:
        self.acknowledged |= {row.event_id for row in outcome.events if row.status in ("accepted", "duplicate")}
        if outcome.rejected:
            self.wrong.append(f"{outcome.rejected} events were rejected")

    def _read(self) -> None:
        others = {f"item of {tenant}" for tenant in TENANTS if tenant != self.tenant}
        with Client(self.url, self.key, retries=PATIENT) as client:
            while not self.stopped.is_set():
                self._timed("lists", lambda: self._look(client.recommend("user-0", k=20), others))

    def _look(self, made: Any, others: set[str]) -> None:
        self.answers[f"policy {made.policy.name}"] += 1
        if not made.items or others & {item.item_id for item in made.items}:
            self.wrong.append(f"a list with {[item.item_id for item in made.items][:5]}")

    def _timed(self, what: str, work: Callable[[], None]) -> None:
        started = time.monotonic()
        try:
            work()
            self.answers[what] += 1
        except ClientError as error:
            self.wrong.append(str(error))
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)


def main(
    bundle: Annotated[Path, typer.Option(help="Directory of the bundle to serve.")],
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS,
) -> None:
    """Kill one thing after another under load, and count."""
    console, stopped = Console(highlight=False), threading.Event()
    settings = {"bundle_root": str(bundle.resolve().parent)}
    with (
        TemporaryDirectory(prefix="driftline-chaos-") as folder,
        LocalService(bundle, Path(folder), settings=settings) as service,
    ):
        store = Store(service.database)
        keys = {tenant: create_key(store, tenant, "chaos", ["read", "write", "admin"]) for tenant in TENANTS}
        items = driftline.load(bundle).item_ids
        traffic = [Traffic(tenant, service.url, keys[tenant], items, stopped) for tenant in TENANTS]
        for tenant in TENANTS:
            with Client(service.url, keys[tenant]) as client:
                client.put_item(f"item of {tenant}", title="A title of one tenant", categories=["Drama"])
        threads = [thread for each in traffic for thread in each.start()]
        time.sleep(SETTLE_S)
        recovery = {name: _killed(service, keys["acme"], name, console) for name in DEPLOYMENTS}
        time.sleep(SETTLE_S)
        stopped.set()
        for thread in threads:
            thread.join(300)
        found = {each.tenant: _judged(each, store) for each in traffic}
    _print(console, found, recovery)
    figures = {"recovery_s": recovery, "tenants": found}
    out.write_text(json.dumps({"figures": figures, **provenance({"bundle": bundle.name}, 7)}, indent=2) + "\n")


def _killed(service: LocalService, key: str, deployment: str, console: Console) -> float:
    """SIGKILL every replica of a deployment; seconds until readyz and a list answer again, probed without retries."""
    assert service.process is not None
    family = psutil.Process(service.process.pid).children(recursive=True)
    replicas = [process for process in family if _is_replica(process, deployment)]
    for process in replicas:
        os.kill(process.pid, signal.SIGKILL)
    started = time.monotonic()
    console.print(f"killed {deployment}: {[process.pid for process in replicas]}")
    headers = {"Authorization": f"Bearer {key}"}
    while time.monotonic() - started < RECOVERY_TIMEOUT_S:
        time.sleep(0.1)
        try:
            ready = httpx.get(f"{service.url}/readyz", timeout=10).status_code == 200
            made = httpx.post(f"{service.url}/v1/recommend", json={"user_id": "user-0"}, headers=headers, timeout=30)
            if ready and made.status_code == 200 and made.json()["degraded"] is None:
                break
        except httpx.TransportError:  # still down: that is what is being timed
            continue
    seconds = time.monotonic() - started
    console.print(f"{deployment} was back after {seconds:.1f} s")
    time.sleep(SETTLE_S)
    return seconds


def _is_replica(process: psutil.Process, deployment: str) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    return "ray::" in title and f":{deployment}" in title.replace("#", ":")


def _judged(traffic: Traffic, store: Store) -> dict[str, Any]:
    kept: set[str] = set()
    for number in range(10):
        snapshot = store.snapshot(traffic.tenant, f"user-{number}", 10**6)
        kept |= {event.event_id for event in snapshot.history}
    return {
        "acknowledged_events": len(traffic.acknowledged),
        "lost_events": len(traffic.acknowledged - kept),
        "events_of_others": sum(not event_id.startswith(f"{traffic.tenant}-") for event_id in kept),
        "answers": dict(traffic.answers),
        "wrong": len(traffic.wrong),
        "wrong_examples": traffic.wrong[:5],
        "slowest_call_s": round(traffic.slowest_s, 1),
    }


def _print(console: Console, found: dict[str, dict[str, Any]], recovery: dict[str, float]) -> None:
    table = Table("tenant", "acknowledged", "lost", "of others", "wrong answers", "slowest call")
    for tenant, row in found.items():
        table.add_row(
            tenant, str(row["acknowledged_events"]), str(row["lost_events"]), str(row["events_of_others"]),
            str(row["wrong"]), f"{row['slowest_call_s']} s",
        )  # fmt: skip
    console.print(table)
    for name, seconds in recovery.items():
        console.print(f"{name}: whole again {seconds:.1f} s after SIGKILL")
    for row in found.values():
        for example in row["wrong_examples"]:
            console.print(f"wrong: {example}")


if __name__ == "__main__":
    run_job(main)
