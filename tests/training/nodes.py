"""A training run on several raylets of one machine, one of which goes away: run as a process of its own.

    python -m tests.training.nodes SCENARIO FOLDER

``remove``: a node with a worker on it is killed inside an epoch. ``preempt``: it is announced first, then killed.
``shrink``: it is killed, nothing can replace it, and the run is elastic. Prints one JSON object: figures, and what was
on the screen.
"""

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"] = "0.5"
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"

import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from tests.tiny import tiny_config

OVERRIDES = ("text.epochs=0", "drift.enabled=false", "training.epochs=30", "training.patience=30")
"""A run of some seconds; nothing but the ranking stage."""
PREEMPTION_NOTICE_S = 8
"""Shorter than the run. Ray takes a node that dies before its time for a failure: it must live that long."""


def overrides(scenario: str) -> list[str]:
    """What the scenario's configuration has beside :data:`OVERRIDES`."""
    if scenario == "preempt":
        return ["training.max_failures=0"]
    if scenario == "shrink":
        return ["training.num_workers=[1, 2]", "training.max_failures=1"]
    return ["training.checkpoints.every_steps=3", "training.max_failures=1"]


def states(runs: Path) -> list[dict[str, Any]]:
    """What the checkpoints under ``runs`` say of themselves."""
    found = []
    for path in runs.glob("*/checkpoint_*/state.json"):
        try:
            found.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            continue  # still being copied, or superseded
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 240) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError("a condition of the scenario was not met")


def node_of_a_worker(cluster: Cluster) -> Any:
    """A node other than the head's that a training worker lives on."""
    from ray._private.state import actors

    used = {
        actor["Address"]["NodeID"]
        for actor in actors().values()
        if "RayTrainWorker" in actor["ActorClassName"] and actor["State"] == "ALIVE"
    }
    return next((node for node in cluster.worker_nodes if node.node_id in used), None)


def disturb(scenario: str, cluster: Cluster, runs: Path, log: list[str]) -> None:
    """Take a node away in the middle of the ranking stage."""
    inside = scenario == "remove"
    wait_for(lambda: any(state["stage"] == "ranker" and (state["position"] or not inside) for state in states(runs)))
    node = wait_for(lambda: node_of_a_worker(cluster))
    if scenario == "preempt":
        announced_at = time.monotonic()
        announce(cluster, node.node_id)
        wait_for(lambda: any(state["position"] for state in states(runs)), PREEMPTION_NOTICE_S)
        log.append("checkpoint on notice")
        time.sleep(max(0.0, announced_at + PREEMPTION_NOTICE_S + 1 - time.monotonic()))
    cluster.remove_node(node, allow_graceful=False)
    log.append("node removed")


def announce(cluster: Cluster, node_id: str) -> None:
    """What a cloud's notice comes to: the node is drained."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    deadline_ms = int((time.time() + PREEMPTION_NOTICE_S) * 1000)
    accepted, why = GcsClient(address=cluster.address).drain_node(
        node_id, autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"), "notice", deadline_ms
    )
    assert accepted, why


def main(scenario: str, folder: Path) -> None:
    """Run the scenario."""
    from driftline.training.trainer import train

    memory = 150 * 1024**2
    spare = 0 if scenario == "shrink" else 1
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory})
    for _ in range(2 + spare):
        cluster.add_node(num_cpus=1, object_store_memory=memory)
    ray.init(address=cluster.address, log_to_driver=False)
    config = tiny_config(folder, [*OVERRIDES, *overrides(scenario), f"storage={folder / scenario}"])
    log: list[str] = []
    threading.Thread(target=disturb, args=(scenario, cluster, config.storage / "runs", log), daemon=True).start()
    screen = io.StringIO()
    try:
        result = train(config, Console(file=screen, width=200))
        worlds = sorted({state["world_size"] for state in states(config.storage / "runs")})
        print(json.dumps({"metrics": result.metrics, "screen": screen.getvalue(), "log": log, "worlds": worlds}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
