"""How many trials fit a cluster wholly, worked out before any of them starts.

A trial that trains on workers holds one CPU while it waits for them. If every CPU were held by waiting trials, none
would ever get its workers: a sweep starts only as many trials as fit with all of their workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from driftline.errors import ConfigError
from driftline.sweep.spec import Sweep

Resources = dict[str, float]
ROUNDING = 1e-6
UNLIMITED_NODES = 64
"""Nodes counted of a group that the autoscaler does not bound."""


@dataclass(frozen=True)
class Concurrency:
    """How many trials run at a time, and why."""

    trials: int
    reason: str


def needs(sweep: Sweep) -> list[Resources]:
    """Resources of each process of one trial; a process lies on one node.

    The controller of Ray Train claims none, a worker claims a GPU or else a CPU.
    """
    worker: Resources = {"GPU": 1.0} if sweep.base.training.use_gpu else {"CPU": 1.0}
    if sweep.trial_workers == 0:
        return [{"CPU": 1.0} | worker]
    return [{"CPU": 1.0}, *[worker] * sweep.trial_workers]


def fitting(need: Sequence[Resources], nodes: Sequence[Resources], most: int) -> int:
    """Trials, up to ``most``, that nodes of these resources can hold at once, each process on the first node with
    room for it."""
    free = [dict(node) for node in nodes]
    for placed in range(most):
        for process in need:
            home = next((node for node in free if _has_room(node, process)), None)
            if home is None:
                return placed
            for name, amount in process.items():
                home[name] -= amount
    return most


def _has_room(node: Resources, process: Resources) -> bool:
    return all(node.get(name, 0.0) + ROUNDING >= amount for name, amount in process.items())


def plan(sweep: Sweep, nodes: Sequence[Resources], trials: int) -> Concurrency:
    """How many of a sweep's trials run at a time on these nodes.

    Raises
    ------
    ConfigError
        If not even one trial fits.
    """
    need = needs(sweep)
    wanted = min(trials, sweep.search.max_concurrent_trials or trials)
    found = fitting(need, nodes, wanted)
    text = f"a trial needs {_sum_of(need)}; the cluster has {_sum_of(nodes)} on {len(nodes)} node(s)"
    if found == 0:
        raise ConfigError(
            [
                f"no trial can ever be placed: {text}. Lower search.trial_workers "
                "(0 = the trial's own process), or add nodes"
            ],
            "sweep",
        )
    if found < wanted:
        return Concurrency(found, f"{found} trials at a time, not {wanted}, so that none waits for workers: {text}")
    return Concurrency(found, f"{found} trial{'s' if found > 1 else ''} at a time; {text}")


def _sum_of(parts: Sequence[Resources]) -> str:
    total = {name: sum(part.get(name, 0.0) for part in parts) for name in ("CPU", "GPU")}
    return " and ".join(f"{amount:g} {name}" for name, amount in total.items() if amount) or "no CPU"


def cluster_nodes() -> list[Resources]:
    """Resources of each node: of the living ones, or, where an autoscaler adds nodes, of all that it may come to."""
    import ray
    from ray._private.state import state  # nothing public tells what an autoscaler may add

    config = state.get_cluster_config()
    groups = config.node_group_configs if config is not None else []
    if groups:
        return [dict(group.resources) for group in groups for _ in range(_count(group.max_count))]
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _count(most: int) -> int:
    return UNLIMITED_NODES if most < 0 else most
