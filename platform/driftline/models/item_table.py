"""The item table: what an item is to every encoder = projected text vector + ID residual.

Shape legend: N items, H width of the text vectors, D width of the recommender.
"""

import torch
from torch import Tensor, nn


class ItemTable(nn.Module):
    """Item vectors from text and identity.

    With ID dropout (DropoutNet, Volkovs et al. 2017) some items of a training step are seen by text alone, so an
    item without history is scored from its text, and a well-known one from both.

    Parameters
    ----------
    text_vectors_NH
        Cached vectors of the text tower, and behind them those of other modalities. Not trained here.
    known_N
        bool, true for items with training events; the others keep a zero residual.
    dim
        D.
    id_dropout
        Share of items whose residual is dropped in a training step.
    """

    text_vectors_NH: Tensor
    known_N: Tensor
    share_N: Tensor
    """Share of each item in the training events, once :meth:`start_from_popularity` has been told."""

    def __init__(self, text_vectors_NH: Tensor, known_N: Tensor, dim: int, id_dropout: float) -> None:
        super().__init__()
        self.register_buffer("text_vectors_NH", text_vectors_NH.float())
        self.register_buffer("known_N", known_N)
        self.register_buffer("share_N", torch.zeros(len(known_N)), persistent=False)
        self.project = nn.Linear(text_vectors_NH.shape[1], dim, bias=False)
        nn.init.normal_(self.project.weight, std=0.02)
        self.residual_ND = nn.Parameter(torch.randn(text_vectors_NH.shape[0], dim) * 0.02)
        self.bias_N = nn.Parameter(torch.zeros(text_vectors_NH.shape[0]))
        self.id_dropout = id_dropout

    def forward(self, rows_M: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The current table.

        Parameters
        ----------
        rows_M
            Only those items, of which there are then N.

        Returns
        -------
        table_ND, bias_N
        """
        parts = (self.text_vectors_NH, self.residual_ND, self.bias_N, self.known_N)
        text_NH, residual_ND, bias_N, known_N = parts if rows_M is None else [part[rows_M] for part in parts]
        keep_N = known_N.to(residual_ND.dtype)
        if self.training and self.id_dropout:
            keep_N = keep_N * (torch.rand_like(bias_N) >= self.id_dropout)
        table_ND = self.project(text_NH.to(self.project.weight.dtype)) + residual_ND * keep_N.unsqueeze(-1)
        return table_ND, bias_N * keep_N

    def start_from_popularity(self, counts_N: Tensor) -> None:
        """Set the biases to the log training counts, centred, and the shares, before training.

        Popularity spans six nats; learning them by small steps takes most of the epochs otherwise.
        """
        log_counts_N = torch.log1p(counts_N.float())
        with torch.no_grad():
            self.bias_N.copy_(log_counts_N - log_counts_N.mean())
            self.share_N.copy_(counts_N / counts_N.sum().clamp(min=1))

    def begin_anew(self, known_before_N: Tensor, bias_N: Tensor) -> None:
        """Give items that were not known before the biases that others had at the start, and no residual.

        Nothing has trained either of them: a residual that is dropped has no gradient.
        """
        fresh_N = self.known_N & ~known_before_N
        with torch.no_grad():
            self.bias_N[fresh_N] = bias_N[fresh_N]
            self.residual_ND[fresh_N] = 0.0

    def from_text(self, text_vectors_MH: Tensor) -> Tensor:
        """Vectors of items that are not in the table, from text alone: M by D. Other modalities count as missing."""
        missing = self.project.in_features - text_vectors_MH.shape[1]
        text_vectors_MH = nn.functional.pad(text_vectors_MH, (0, missing))
        projected_MD: Tensor = self.project(text_vectors_MH.to(self.project.weight.dtype))
        return projected_MD
