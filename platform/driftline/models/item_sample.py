"""A sample of the catalogue that stands for all of it in a training step.

Shape legend: B sequences, L events, N items, M items of the sample.
"""

from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from driftline.sequences.batches import Batch


@dataclass(frozen=True)
class ItemSample:
    """The step's catalogue.

    Attributes
    ----------
    items_M
        Catalogue indices, ascending; every item of the batch is among them.
    log_stands_for_M
        Log of how many items each stands for in a softmax: ``-log P(in the sample)``, the logQ correction (Bengio &
        Senecal 2008; Yi et al. 2019).
    batch
        The batch, its items as places in ``items_M``.
    """

    items_M: Tensor
    log_stands_for_M: Tensor
    batch: Batch


def sample_items(batch: Batch, share_N: Tensor, uniform: int) -> ItemSample:
    """The items of all ranks' batches and so many drawn uniformly without replacement. Collective.

    An item that has a share ``p`` of the training events is in the sample with probability
    ``1 - (1 - uniform / N) (1 - p)^events``, if a batch's events are independent. Weighting by the inverse makes the
    sample's sum of exponentials unbiased (Horvitz & Thompson 1952), and exact once ``uniform`` is N.

    Parameters
    ----------
    share_N
        Share of each item in the training events.
    """
    num_items = len(share_N)
    uniform = min(uniform, num_items)
    own_E = batch.items_BL[batch.mask_BL]
    events_E = _of_all_ranks(own_E)
    drawn = torch.randperm(num_items, device=own_E.device)[:uniform]
    items_M = torch.cat([events_E, drawn]).unique()
    share_M = share_N[items_M].double()
    log_missed_M = len(events_E) * torch.log1p(-share_M) + torch.log1p(torch.tensor(-uniform / num_items)).to(share_M)
    log_stands_for_M = -torch.log(-torch.expm1(log_missed_M))
    places_BL = torch.searchsorted(items_M, batch.items_BL).masked_fill(~batch.mask_BL, 0)
    return ItemSample(items_M, log_stands_for_M.float(), replace(batch, items_BL=places_BL))


def _of_all_ranks(items_E: Tensor) -> Tensor:
    """Items of every rank's batch, one after another."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return items_E
    count = torch.tensor([len(items_E)], device=items_E.device)
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    longest = int(torch.cat(counts).max())
    padded = torch.nn.functional.pad(items_E, (0, longest - len(items_E)))
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([items[: int(n)] for items, n in zip(gathered, counts, strict=True)])
