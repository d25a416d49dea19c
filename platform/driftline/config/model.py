"""Sections that say what is read and what is built: data, text tower, encoders, heads, fusion, drift, ranking."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from driftline.config.base import Section

EncoderKind = Literal["gru", "lstm", "transformer", "llm", "mean"]
Component = Literal[
    "neural",
    "ease-recency",
    "item-knn-recency",
    "co-occurrence",
    "markov",
    "user-knn",
    "popularity",
    "trend",
    "attention",
    "content",
]
PROTECTED = {
    *("age", "birth", "birthday", "birthdate", "birthyear", "gender", "sex", "race", "ethnicity", "colour", "color"),
    *("nationality", "language", "religion", "belief", "opinion", "property", "disability", "orientation", "marital"),
}
"""Words that name grounds on which nobody may be discriminated against (Charter of Fundamental Rights of the European
Union, article 21)."""
AdapterKind = Literal["lora", "dora", "rslora", "qlora", "adalora", "ia3", "prefix", "full"]


class DataConfig(Section):
    """What is read. ``sample`` names fetched data; otherwise give ``interactions`` (and the rest if there is any)."""

    sample: Literal["ml-100k"] | None = None
    interactions: Path | None = None
    """Event file: .inter, .csv, .jsonl or .parquet; with ``ingest=ray-data`` also a folder of them (no .jsonl)."""
    items: Path | None = None
    graph: Path | None = None
    """Knowledge-graph triples (.kg)."""
    links: Path | None = None
    """Item to graph entity (.link)."""
    item_vectors: Path | None = None
    """Precomputed vectors of items (.parquet): ``item_id`` and a column of lists of numbers for each modality (image,
    audio …). The ranker reads them beside the text vectors."""
    users: Path | None = None
    """User table (.user, .csv, .jsonl or .parquet) with ``user_id`` and the columns of ``user_attributes``."""
    user_attributes: tuple[str, ...] = ()
    """Columns of the user table that the ranking encoder reads as categories, beside what a user did: [occupation]."""
    allow_protected_attributes: bool = False
    """Whether ``user_attributes`` may name protected ones (age, gender …): lists then depend on them."""
    columns: dict[str, str | None] = Field(default_factory=dict)
    """Input column -> Driftline column (``columns.Events``); null ignores the input column."""
    repeat_consumption: bool = False
    """Whether an item can be recommended again; where it is off, seen items are masked."""
    max_rejected_fraction: float = Field(0.01, ge=0, le=1)
    """Stop if more than this share of the rows is malformed; fewer are counted and listed."""
    ingest: Literal["memory", "ray-data"] = "memory"
    """memory: every process holds the log. ray-data: Ray Data writes histories once, under ``storage``/ingest, and the
    ranking stage streams them; what needs whole histories at once works on ``sample_users``."""
    sample_users: int = Field(20_000, ge=1)
    """Users behind everything but the ranking stage with ``ingest=ray-data``: collaborative tables, text and drift
    stages, gate, validation and evaluation."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if (self.sample is None) == (self.interactions is None):
            raise ValueError("give exactly one of `sample` (valid: ml-100k) and `interactions` (a file)")
        if (self.graph is None) != (self.links is None):
            raise ValueError("`graph` and `links` belong together: give both or neither")
        return self


class AdapterConfig(Section):
    """What of the language model is trained: an adapter on frozen weights, or all of it."""

    kind: AdapterKind = "lora"
    """lora (Hu et al. 2022), dora (Liu et al. 2024), rslora (Kalajdzievski 2023), qlora (Dettmers et al. 2023; GPU),
    adalora (Zhang et al. 2023), ia3 (Liu et al. 2022), prefix (Li & Liang 2021), or full fine-tuning."""
    rank: int = Field(8, ge=1)
    """Of the low-rank kinds."""
    alpha: int = Field(16, ge=1)
    """The low-rank update is scaled by alpha / rank (rslora: alpha / sqrt(rank))."""
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] | Literal["auto", "all-linear"] = "auto"
    """Module names inside one decoder layer; auto = what PEFT has published for the architecture (query and value)."""
    prefix_tokens: int = Field(16, ge=1)
    """Virtual tokens of prefix tuning."""

    @field_validator("targets", mode="before")
    @classmethod
    def _names_or_rule(cls, value: Any) -> Any:
        names = isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value)
        if not names and value not in ("auto", "all-linear"):
            raise ValueError(f"{value!r} is neither auto, nor all-linear, nor a list of module names")
        return value


class DomainConfig(Section):
    """Continued causal-LM training on the catalogue's texts, before the alignment (domain adaptation)."""

    epochs: int = Field(0, ge=0)
    """Passes over the catalogue's texts; 0 = no such stage."""
    learning_rate: float = Field(1e-3, gt=0)
    batch_texts: int = Field(16, ge=1)
    """Texts per worker and step."""


class TextConfig(Section):
    """The text tower: which language model reads item texts, how deep, and how it is aligned."""

    base: str = "smollm2-135m"
    """A fetched sample model, or a directory that ``AutoModel`` loads."""
    layers: int | None = Field(4, ge=1)
    """First k decoder layers; null = all."""
    adapter: AdapterConfig = AdapterConfig()
    max_tokens: int = Field(48, ge=4)
    max_facts_chars: int = Field(0, ge=0)
    """Knowledge-graph facts in the item text, cut at this many characters; 0 = none."""
    epochs: int = Field(3, ge=0)
    """Contrastive alignment passes over the catalogue; 0 keeps the base model's vectors."""
    batch_items: int = Field(16, ge=2)
    """Items per worker and step; every other item of the catalogue is a negative."""
    learning_rate: float = Field(3e-3, gt=0)
    temperature: float = Field(0.07, gt=0)
    word_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the words of an item text that an alignment step does not read; others in every epoch."""
    domain: DomainConfig = DomainConfig()


class EncoderConfig(Section):
    """An autoregressive user encoder."""

    kind: EncoderKind = "transformer"
    dim: int = Field(64, ge=4)
    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    window_events: int = Field(100, ge=2)
    """The newest events that are read."""
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of items that are seen by text alone in a training step."""
    mask_seen: bool = False
    """Leave items the user already had out of the training softmax (never where the catalogue allows repeats)."""
    tied_output: bool = True
    """An item in a history and the same item as the answer have one vector. Untied, it has another residual as input,
    which starts at zero."""
    event_types: bool = False
    """Read what kind each event is (view, purchase, rating …), where the history says so."""
    full_softmax_up_to: int = Field(100_000, ge=1)
    """Items up to which the training softmax is over all; beyond, over the items of all workers' batches and
    ``sampled_items`` others, logQ-corrected."""
    sampled_items: int = Field(8_192, ge=1)
    target_gap: bool = False
    """Read how long after the history's last event the next one is asked for, where that is known; so does the gate."""
    item_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of a training history's events whose item the encoder does not see; they stay targets."""
    adversarial: float = Field(0.0, ge=0)
    """Also train on the item vectors moved by this share of their length to where the loss is higher (FGM, Miyato et
    al. 2017): twice the time. 0 = not."""

    @model_validator(mode="after")
    def _divisible(self) -> "EncoderConfig":
        if self.kind == "transformer" and self.dim % self.heads:
            raise ValueError(f"dim={self.dim} is not a multiple of heads={self.heads}: choose another of them")
        return self


class HeadsConfig(Section):
    """Weights of the tasks beside next-item prediction (weight 1)."""

    rating: float = Field(0.1, ge=0)
    """MSE on explicit values; 0 switches the head off."""
    drift: float = Field(0.0, ge=0)
    """BCE on spliced streams from ``U_t = A H_t + B``."""
    text: float = Field(0.0, ge=0)
    """Next item with every item known by its text alone, which is then how items without events are scored; 0 = they
    are scored by the projection that known items share."""


class FusionConfig(Section):
    """Which scores the gate mixes, and how it is fitted on validation targets."""

    components: tuple[Component, ...] = ("neural", "ease-recency", "co-occurrence", "popularity", "attention")
    """ease-recency and item-knn-recency are one place: the size of the catalogue decides which of them stands there
    (``ranking.dense_tables_up_to``), and a bundle's own configuration names it. trend is what is popular at the
    moment of the history's last event, or of the request where that is read. user-knn keeps the items of all
    training users in the bundle and costs a request about a millisecond for a thousand of them. content scores
    items by collaborative factors, which items without events have too: a ridge regression predicts theirs from
    year, categories and text."""
    steps: int = Field(600, ge=1)
    weight_decay: float = Field(0.03, ge=0)
    """Of the gate, which is fitted on few targets, the same that chose the epoch."""


class JudgeConfig(Section):
    """The LLM judge: ``text.base`` reads the windows on either side of an alarm's change point as text, and overrules
    the alarm or keeps it."""

    enabled: bool = False
    """Train a judge, and let it adjudicate alarms. Off by default: docs/drift.md says what it adds and costs."""
    layers: int | None = Field(4, ge=1)
    """First k decoder layers of ``text.base``; null = all."""
    adapter: AdapterConfig = AdapterConfig(rank=16, alpha=32, targets="all-linear")
    window_items: int = Field(10, ge=1)
    """Most items of one list; longer windows are read list by list and the answers averaged."""
    item_tokens: int = Field(12, ge=4)
    """An item's text, categories before the title, is cut after this many tokens."""
    pairs: int = Field(800, ge=4)
    """Of a spliced and an unspliced stream of a training user, in every epoch; each epoch draws its own."""
    epochs: int = Field(4, ge=1)
    batch_examples: int = Field(16, ge=2)
    """Prompts per worker and step."""
    learning_rate: float = Field(5e-4, gt=0)
    keep_above: float = Field(0.5, gt=0, lt=1)
    """An alarm whose P(changed) by the judge is lower is overruled."""


class DriftConfig(Section):
    """The drift encoder, its statistic, and what it is calibrated to."""

    enabled: bool = True
    encoder: EncoderConfig = EncoderConfig(kind="mean", window_events=120, id_dropout=0.0, mask_seen=True)
    epochs: int = Field(25, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    batch_users: int = Field(24, ge=1)
    """Sequences per worker and step."""
    hazard: float = Field(0.01, gt=0, lt=1)
    """Prior probability that any one event starts a new regime."""
    recent_events: int = Field(40, ge=1)
    """P(drift) is the posterior mass on 'the regime began within the last this many events'."""
    event_order: Literal["natural", "shuffled"] = "natural"
    """Which order of histories the verifier, P(drift) and the alarm are fitted on. Browsing sessions alone look like
    drift; choose shuffled where the order inside a history means nothing."""
    arl_events: int = Field(200, ge=10)
    """Average run length between false alarms that the threshold is calibrated to."""
    judge: JudgeConfig = JudgeConfig()


class PolicyConfig(Section):
    """How the drift posterior changes the reading of a history."""

    drifting_above: float = Field(0.5, gt=0, lt=1)
    reset_above: float = Field(0.95, gt=0, le=1)
    diversity: float = Field(0.0, ge=0, lt=1)
    """MMR trade-off: 0 = relevance only."""


class RankingConfig(Section):
    """What the ranker may learn from."""

    exclude_held_out: bool = False
    """Keep the drift part's test users (20 %, by hash) out of the ranker's training data too."""
    dense_tables_up_to: int = Field(20_000, ge=0)
    """Items up to which the collaborative tables hold all pairs (1.6 GB each at 20,000) and the item-item model is
    EASE; beyond, they are sparse and it is item-kNN."""
    policy: PolicyConfig = PolicyConfig()
