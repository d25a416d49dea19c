"""Validation figures during training: sharded over ranks, summed by all-reduce.

Shape legend: T targets, D width, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from driftline.evaluation.metrics import hit_rate, mid_ranks, ndcg
from driftline.models.losses import next_item_loss
from driftline.models.recommender import Recommender
from driftline.models.text_tower import TextAligner, Tokenizer
from driftline.sequences.batches import Batch, History, collate, window

BATCH_TARGETS = 128


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

    def shard(self, rank: int, world_size: int) -> "RankingTargets":
        """Every ``world_size``-th target."""
        return RankingTargets(self.histories[rank::world_size], self.targets_T[rank::world_size])


def seen_items(histories: Sequence[History], num_items: int) -> NDArray[np.bool_]:
    """Items of each whole history: bool ``seen_BN``."""
    seen_BN = np.zeros((len(histories), num_items), dtype=bool)
    for row, history in enumerate(histories):
        seen_BN[row, history.items] = True
    return seen_BN


@torch.no_grad()
def neural_scores(model: Recommender, histories: Sequence[History], device: torch.device) -> NDArray[np.float32]:
    """Scores of all items for what comes next: ``scores_BN``."""
    table_ND, bias_N = model.items()
    batch = collate([window(history, model.encoder.config.window_events) for history in histories]).to(device)
    scores_BN = model.last_interests(batch, table_ND) @ table_ND.T + bias_N
    scores: NDArray[np.float32] = scores_BN.float().cpu().numpy()
    return scores


def validate_ranking(
    model: Recommender, shard: RankingTargets, device: torch.device, mask_seen: bool
) -> dict[str, float]:
    """NDCG@10 and HR@10 of the neural score alone, over all ranks' shards."""
    sums = {"NDCG@10": 0.0, "HR@10": 0.0}
    for start in range(0, len(shard), BATCH_TARGETS):
        histories = shard.histories[start : start + BATCH_TARGETS]
        scores_BN = neural_scores(model, histories, device)
        excluded_BN = seen_items(histories, scores_BN.shape[1]) if mask_seen else np.zeros(scores_BN.shape, dtype=bool)
        ranks = mid_ranks(scores_BN, shard.targets_T[start : start + BATCH_TARGETS], excluded_BN)
        sums["NDCG@10"] += float(ndcg(ranks).sum())
        sums["HR@10"] += float(hit_rate(ranks).sum())
    return mean_over_ranks(sums, len(shard), device)


@torch.no_grad()
def validate_likelihood(model: Recommender, batches: Sequence[Batch], device: torch.device) -> dict[str, float]:
    """Mean log-likelihood of the next item in nats (higher is better), over all ranks' batches."""
    table_ND, bias_N = model.items()
    total, events = 0.0, 0
    for batch in batches:
        moved = batch.to(device)
        loss = next_item_loss(model.interests(moved, table_ND), table_ND, bias_N, moved, model.mask_seen)
        total -= float(loss) * batch.events
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
    mine = held_out[rank::world_size]
    hits = 0.0
    for start in range(0, len(mine), BATCH_TARGETS):
        chosen = mine[start : start + BATCH_TARGETS]
        similarity = aligner.similarities(tokenizer([texts[i] for i in chosen]).to(device)).float().cpu().numpy()
        ranks = mid_ranks(similarity, chosen, np.zeros(similarity.shape, dtype=bool))
        hits += float(hit_rate(ranks).sum())
    return mean_over_ranks({"recall@10": hits}, len(mine), device)
