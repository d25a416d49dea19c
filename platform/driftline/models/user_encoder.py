"""User encoders: from a sequence of item vectors to an interest vector after every event.

Shape legend: B sequences, L events, D width, S = L + 1 states (state 0 is the user nobody has seen yet).

All kinds are causal: ``interests_BSD[:, t]`` depends on the first ``t`` events only. Sequences are padded on the
right, so padding can never reach a real state.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from driftline.config import EncoderConfig
from driftline.sequences.event_types import NUM_TYPES, UNKNOWN_TYPE
from driftline.sequences.gaps import GAP_BUCKETS, UNKNOWN_GAP
from driftline.sequences.user_attributes import UNKNOWN


class UserEncoder(nn.Module):
    """One interface for every kind of autoregressive encoder.

    Parameters
    ----------
    config
        Kind, width and depth.
    decoder
        For ``kind="llm"`` only: a Hugging Face decoder (its layers run over item vectors).
    attribute_values
        Values that users' attributes have (:mod:`driftline.sequences.user_attributes`); 0 = none are read.
    """

    def __init__(self, config: EncoderConfig, decoder: nn.Module | None = None, attribute_values: int = 0) -> None:
        super().__init__()
        self.config = config
        self.start_D = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.gap = nn.Embedding(GAP_BUCKETS, config.dim)
        nn.init.zeros_(self.gap.weight)
        self.next_gap = nn.Embedding(GAP_BUCKETS, config.dim, padding_idx=UNKNOWN_GAP) if config.target_gap else None
        if self.next_gap is not None:
            nn.init.zeros_(self.next_gap.weight)
        self.event_type = nn.Embedding(NUM_TYPES, config.dim) if config.event_types else None
        if self.event_type is not None:
            nn.init.zeros_(self.event_type.weight)
        self.attribute = nn.Embedding(1 + attribute_values, config.dim, UNKNOWN) if attribute_values else None
        if self.attribute is not None:
            nn.init.zeros_(self.attribute.weight)
        self.input_dropout = nn.Dropout(config.dropout)
        self.body = _build_body(config, decoder)
        self.norm = nn.LayerNorm(config.dim)

    def forward(
        self,
        events_BLD: Tensor,
        mask_BL: Tensor,
        gaps_BL: Tensor | None = None,
        types_BL: Tensor | None = None,
        attributes_BA: Tensor | None = None,
        next_gaps_BS: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Interest vectors before the first and after each event.

        Parameters
        ----------
        events_BLD
            Item vectors, oldest first, padded on the right.
        mask_BL
            bool, true where there is an event.
        gaps_BL
            int64 buckets of the time since the event before (:mod:`driftline.sequences.gaps`); None = unknown.
        types_BL
            int64 kinds of events (:mod:`driftline.sequences.event_types`), read with ``encoder.event_types``.
        attributes_BA
            int64 values of the users' attributes: their vectors are added to the start state, and an unknown one adds
            nothing.
        next_gaps_BS
            int64 buckets of the time from each state to the event after it, read with ``encoder.target_gap``; unknown
            ones add nothing.
        last_only
            Only those after the last event, which cost a transformer much less.

        Returns
        -------
        Tensor
            ``interests_BSD`` with S = L + 1; ``interests_BD`` with ``last_only``.
        """
        if gaps_BL is None:  # looked up all the same: every rank must have a gradient for every parameter
            gaps_BL = torch.full_like(mask_BL, UNKNOWN_GAP, dtype=torch.long)
        events_BLD = events_BLD + self.gap(gaps_BL)
        if self.event_type is not None:
            types_BL = torch.full_like(mask_BL, UNKNOWN_TYPE, dtype=torch.long) if types_BL is None else types_BL
            events_BLD = events_BLD + self.event_type(types_BL)
        start_B1D = self.start_D.expand(events_BLD.shape[0], 1, -1)
        if self.attribute is not None:
            if attributes_BA is None:
                attributes_BA = torch.full_like(mask_BL[:, :1], UNKNOWN, dtype=torch.long)
            start_B1D = start_B1D + self.attribute(attributes_BA).sum(dim=1, keepdim=True)
        states_BSD = torch.cat([start_B1D, events_BLD], dim=1)
        mask_BS = torch.cat([torch.ones_like(mask_BL[:, :1]), mask_BL], dim=1)
        if self.next_gap is not None:
            unknown_BS = torch.full_like(mask_BS, UNKNOWN_GAP, dtype=torch.long)
            states_BSD = states_BSD + self.next_gap(unknown_BS if next_gaps_BS is None else next_gaps_BS)
        states_BSD = self.input_dropout(states_BSD) * mask_BS.unsqueeze(-1)
        last_B = mask_BL.sum(dim=1) if last_only else None
        if isinstance(self.body, TransformerBody):
            states = self.body(states_BSD, mask_BS, last_B)
        else:
            states = self.body(states_BSD, mask_BS)
            states = states if last_B is None else states[torch.arange(len(last_B)), last_B]
        interests: Tensor = self.norm(states)
        return interests


class RecurrentBody(nn.Module):
    """GRU (Hidasi et al. 2016) or LSTM over the states."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        kind: Callable[..., nn.Module] = nn.GRU if config.kind == "gru" else nn.LSTM
        dropout = config.dropout if config.layers > 1 else 0.0
        self.rnn = kind(config.dim, config.dim, config.layers, batch_first=True, dropout=dropout)

    def forward(self, states_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """Run the recurrence; padding lies to the right, so the mask is not needed."""
        outputs_BSD: Tensor = self.rnn(states_BSD)[0]
        return outputs_BSD


class TransformerBody(nn.Module):
    """Causal pre-norm transformer with learned positions (after SASRec, Kang & McAuley 2018)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.position = nn.Embedding(config.window_events + 1, config.dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.dim, config.heads, config.dropout) for _ in range(config.layers)
        )

    def forward(self, states_BSD: Tensor, mask_BS: Tensor, last_B: Tensor | None = None) -> Tensor:
        """Attend causally; a padded key is always later than any real query. ``last_B``: only those states, B by D."""
        positions_S = torch.arange(states_BSD.shape[1], device=states_BSD.device)
        states_BSD = states_BSD + self.position(positions_S)
        for block in self.blocks[:-1]:
            states_BSD = block(states_BSD)
        left: Tensor = self.blocks[-1](states_BSD, last_B)
        return left


class TransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward.

    Dropout is on the residual branches only: on attention weights it costs a quarter of a CPU step and gained nothing.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_feed = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim))
        self.residual_dropout = nn.Dropout(dropout)

    def forward(self, states_BSD: Tensor, last_B: Tensor | None = None) -> Tensor:
        """One block; with ``last_B`` it is worked out for those states only: B by D."""
        B, S, D = states_BSD.shape
        qkv = self.qkv(self.norm_attention(states_BSD)).view(B, S, 3, self.heads, D // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        before = None
        if last_B is not None:
            rows_B = torch.arange(B, device=states_BSD.device)
            query, states_BSD = query[rows_B, :, last_B].unsqueeze(2), states_BSD[rows_B, last_B].unsqueeze(1)
            before = torch.arange(S, device=states_BSD.device) <= last_B.view(B, 1, 1, 1)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, before, is_causal=before is None)
        states_BSD = states_BSD + self.residual_dropout(self.out(mixed.transpose(1, 2).reshape(states_BSD.shape)))
        left_BSD: Tensor = states_BSD + self.residual_dropout(self.feed(self.norm_feed(states_BSD)))
        return left_BSD if last_B is None else left_BSD.squeeze(1)


class MeanBody(nn.Module):
    """Running mean of the states, then a residual feed-forward: an order-free, log-bilinear reader of a history.

    What drift detection wants: a new browsing order is not a new taste.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.feed = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, 4 * config.dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * config.dim, config.dim),
        )

    def forward(self, states_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """Cumulative mean over the real states (the start state counts as one)."""
        count_BS1 = mask_BS.cumsum(dim=1).clamp(min=1).unsqueeze(-1)
        mean_BSD = states_BSD.cumsum(dim=1) / count_BS1
        fed_BSD: Tensor = self.feed(mean_BSD)
        return mean_BSD + fed_BSD


class DecoderBody(nn.Module):
    """A language model's own decoder layers over item vectors (after HLLM, Chen et al. 2024)."""

    def __init__(self, config: EncoderConfig, decoder: nn.Module) -> None:
        super().__init__()
        hidden: int = decoder.config.hidden_size  # type: ignore[union-attr, assignment]
        self.enter = nn.Linear(config.dim, hidden)
        self.decoder = decoder
        self.leave = nn.Linear(hidden, config.dim)

    def forward(self, states_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """Run the decoder on embeddings instead of tokens."""
        output = self.decoder(inputs_embeds=self.enter(states_BSD), attention_mask=mask_BS.long(), use_cache=False)
        left_BSD: Tensor = self.leave(output.last_hidden_state)
        return left_BSD


def _build_body(config: EncoderConfig, decoder: nn.Module | None) -> nn.Module:
    if config.kind == "llm":
        if decoder is None:
            raise ValueError("encoder.kind=llm needs the language model's decoder")
        return DecoderBody(config, decoder)
    if config.kind == "transformer":
        return TransformerBody(config)
    if config.kind == "mean":
        return MeanBody(config)
    return RecurrentBody(config)
