"""Validation figures during training: sharded over ranks, summed by all-reduce.

Shape legend: T targets, D width, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from scipy.special import logsumexp

from driftline.evaluation.metrics import hit_rate, mid_ranks, ndcg
from driftline.evaluation.protocols import excluded_items
from driftline.models.losses import SCORES_AT_ONCE, next_item_log_p
from driftline.models.recommender import Recommender
from driftline.models.text_tower import TextAligner, Tokenizer
from driftline.sequences.batches import Batch, History, collate, window

BATCH_TARGETS = 128
MAX_ALIGNMENT_ITEMS = 2_000
"""Held-out items that the alignment is measured on; every so-many-th beyond."""

Item = TypeVar("Item")


def mean_over_ranks(sums: dict[str, float], count: float, device: torch.device) -> dict[str, float]:
    """Add up sums and counts of all ranks and divide."""
    tensor = torch.tensor(
        [*sums.values(), count], dtype=torch.float64, device="cpu" if device.type == "cpu" else device
    )
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return {name: float(value / tensor[-1]) for name, value in zip(sums, tensor, strict=False)}


@dataclass(frozen=True)
class RankingTargets:
    """Histories and what came next, as item indices."""

    histories: Sequence[History]
    targets_T: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets_T)


def in_step(batches: Sequence[Item], rank: int, world_size: int) -> list[tuple[Item, bool]]:
    """This rank's batches, equally many on every rank; false marks a repetition, which must not count.

    Under ZeRO-3 every forward pass gathers weights from all ranks: one that makes fewer passes would hang the others.
    """
    filled = -(-len(batches) // world_size) * world_size
    return [(batches[n % len(batches)], n < len(batches)) for n in range(rank, filled, world_size)]


def slices(count: int, world_size: int, num_items: int) -> list[slice]:
    """``count`` targets in batches that keep every rank busy, and whose scores over the items fit into memory."""
    size = min(BATCH_TARGETS, -(-count // world_size), max(1, SCORES_AT_ONCE // num_items))
    return [slice(start, start + size) for start in range(0, count, max(size, 1))]


@torch.no_grad()
def validate_ranking(
    model: Recommender,
    targets: RankingTargets,
    rank: int,
    world_size: int,
    device: torch.device,
    mask_seen: bool,
) -> dict[str, float]:
    """Mean log-likelihood (nats, over the candidates), NDCG@10 and HR@10 of the neural score alone.

    The log-likelihood comes first and so decides: on a thousand targets NDCG@10 is too noisy to choose an epoch by, and
    the gate, fitted on the same targets, would trust a lucky epoch too much. The ranks share the targets.
    """
    sums, count = {"log-likelihood": 0.0, "NDCG@10": 0.0, "HR@10": 0.0}, 0
    (table_ND, _), (output_ND, bias_N) = model.items(), model.outputs()
    for part, counts in in_step(slices(len(targets), world_size, len(table_ND)), rank, world_size):
        histories, targets_T = targets.histories[part], targets.targets_T[part]
        batch = collate([window(history, model.encoder.config.window_events) for history in histories]).to(device)
        scores = model.last_interests(batch, table_ND) @ output_ND.T + bias_N
        scores_BN: NDArray[np.float32] = scores.float().cpu().numpy()
        excluded_BN = excluded_items(histories, scores_BN.shape[1], mask_seen)
        ranks = mid_ranks(scores_BN, targets_T, excluded_BN)
        if counts:
            sums["log-likelihood"] += log_likelihood(scores_BN, targets_T, excluded_BN)
            sums["NDCG@10"] += float(ndcg(ranks).sum())
            sums["HR@10"] += float(hit_rate(ranks).sum())
            count += len(ranks)
    return mean_over_ranks(sums, count, device)


def log_likelihood(
    scores_BN: NDArray[np.float32], targets_B: NDArray[np.int64], excluded_BN: NDArray[np.bool_]
) -> float:
    """Sum over targets of ``log softmax`` of the scores, excluded items left out of the normaliser; in nats."""
    rows = np.arange(len(targets_B))
    own_B = scores_BN[rows, targets_B].astype(np.float64)
    open_BN = np.where(excluded_BN, -np.inf, scores_BN)
    open_BN[rows, targets_B] = own_B
    return float((own_B - logsumexp(open_BN, axis=1)).sum())


@torch.no_grad()
def validate_likelihood(
    model: Recommender, batches: Sequence[Batch], rank: int, world_size: int, device: torch.device
) -> dict[str, float]:
    """Mean log-likelihood of the next item in nats (higher is better); the ranks share the batches."""
    table_ND, bias_N = model.items()
    total, events = 0.0, 0
    for batch, counts in in_step(batches, rank, world_size):
        moved = batch.to(device)
        log_p_BL = next_item_log_p(model.interests(moved, table_ND), table_ND, bias_N, moved, model.mask_seen)
        if counts:
            total += float(log_p_BL[moved.mask_BL].sum())
            events += batch.events
    return mean_over_ranks({"log-likelihood": total}, events, device)


@torch.no_grad()
def validate_alignment(
    aligner: TextAligner,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    held_out: NDArray[np.int64],
    rank: int,
    world_size: int,
    device: torch.device,
) -> dict[str, float]:
    """Held-out items: is an item's own collaborative vector among the ten nearest to its text vector?"""
    hits, count = 0.0, 0
    held_out = held_out[:: -(-len(held_out) // MAX_ALIGNMENT_ITEMS) or 1]
    for part, counts in in_step(slices(len(held_out), world_size, len(texts)), rank, world_size):
        chosen = held_out[part]
        similarity = aligner.similarities(tokenizer([texts[i] for i in chosen]).to(device)).float().cpu().numpy()
        ranks = mid_ranks(similarity, chosen, np.zeros(similarity.shape, dtype=bool))
        if counts:
            hits += float(hit_rate(ranks).sum())
            count += len(ranks)
    return mean_over_ranks({"recall@10": hits}, count, device)
