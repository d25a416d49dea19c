"""The typed configuration of a run: frozen pydantic models, a YAML file, and ``--set a.b=c`` overrides.

Every fault is reported at once by :class:`~driftline.errors.ConfigError`, with the field, the value and the
valid choices. The whole tree round-trips through ``Config.to_yaml`` and is stored in every bundle.
"""

import copy
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from driftline.errors import ConfigError

Protocol = Literal["leave-one-out", "temporal-successive"]
EncoderKind = Literal["gru", "lstm", "transformer", "llm", "mean"]


class Section(BaseModel):
    """A frozen section; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class DataConfig(Section):
    """What is read. ``sample`` names fetched data; otherwise give ``interactions`` (and the rest if there is any)."""

    sample: Literal["ml-100k"] | None = None
    interactions: Path | None = None
    """Event file: .inter, .csv, .jsonl or .parquet."""
    items: Path | None = None
    graph: Path | None = None
    """Knowledge-graph triples (.kg)."""
    links: Path | None = None
    """Item to graph entity (.link)."""
    columns: dict[str, str | None] = {}
    """Input column -> Driftline column (``columns.Events``); null ignores the input column."""
    repeat_consumption: bool = False
    """Whether an item can be recommended again; where it is off, seen items are masked."""
    max_rejected_fraction: float = Field(0.01, ge=0, le=1)
    """Stop if more than this share of the rows is malformed; fewer are counted and listed."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if (self.sample is None) == (self.interactions is None):
            raise ValueError("give exactly one of `sample` (valid: ml-100k) and `interactions` (a file)")
        if (self.graph is None) != (self.links is None):
            raise ValueError("`graph` and `links` belong together: give both or neither")
        return self


class LoraConfig(Section):
    """Low-rank adapter of the text tower (Hu et al. 2022)."""

    rank: int = Field(8, ge=1)
    alpha: int = Field(16, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Module names inside one decoder layer."""


class TextConfig(Section):
    """The text tower: which language model reads item texts, how deep, and how it is aligned."""

    base: str = "smollm2-135m"
    """A fetched sample model, or a directory that ``AutoModel`` loads."""
    layers: int | None = Field(4, ge=1)
    """First k decoder layers; null = all."""
    lora: LoraConfig = LoraConfig()
    max_tokens: int = Field(48, ge=4)
    max_facts_chars: int = Field(0, ge=0)
    """Knowledge-graph facts in the item text, cut at this many characters; 0 = none."""
    epochs: int = Field(3, ge=0)
    """Contrastive alignment passes over the catalogue; 0 keeps the base model's vectors."""
    batch_items: int = Field(16, ge=2)
    """Items per worker and step; every other item of the catalogue is a negative."""
    learning_rate: float = Field(3e-3, gt=0)
    temperature: float = Field(0.07, gt=0)


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

    @model_validator(mode="after")
    def _divisible(self) -> "EncoderConfig":
        if self.kind == "transformer" and self.dim % self.heads:
            raise ValueError(f"dim={self.dim} is not a multiple of heads={self.heads}: choose another of them")
        return self


class DeepSpeedConfig(Section):
    """What is passed on to ``deepspeed.initialize``."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_accumulation_steps: int = Field(1, ge=1)
    gradient_clipping: float = Field(1.0, gt=0)
    gradient_checkpointing: bool = False


class HeadsConfig(Section):
    """Weights of the tasks beside next-item prediction (weight 1)."""

    rating: float = Field(0.1, ge=0)
    """MSE on explicit values; 0 switches the head off."""
    drift: float = Field(0.0, ge=0)
    """BCE on spliced streams from ``U_t = A H_t + B``."""


class TrainingConfig(Section):
    """The training job."""

    num_workers: int = Field(2, ge=1)
    use_gpu: bool = False
    threads_per_worker: int = Field(1, ge=1)
    epochs: int = Field(160, ge=1)
    """Upper bound for the ranking encoder; early stopping may end before."""
    batch_users: int = Field(16, ge=1)
    """Sequences per worker and step."""
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(20, ge=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    """After warm-up: keep the rate, or let it fall along a cosine to 2 % at the last epoch."""
    validate_every_epochs: int = Field(5, ge=1)
    patience: int = Field(6, ge=1)
    """Validations without a better log-likelihood before training stops."""
    max_failures: int = Field(2, ge=0)
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()


class FusionConfig(Section):
    """Which scores the gate mixes, and how it is fitted on validation targets."""

    components: tuple[Literal["neural", "ease-recency", "markov", "popularity", "attention"], ...] = (
        "neural",
        "ease-recency",
        "markov",
        "popularity",
        "attention",
    )
    steps: int = Field(300, ge=1)
    weight_decay: float = Field(0.3, ge=0)
    """Pulls the gate towards equal weights: it is fitted on few targets, the same that chose the epoch."""


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
    """Which steady users the alarm threshold is calibrated on. Browsing sessions alone move the statistic, so in
    natural order the threshold is far higher; choose shuffled where the order inside a history means nothing."""
    arl_events: int = Field(200, ge=10)
    """Average run length between false alarms that the threshold is calibrated to."""


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
    policy: PolicyConfig = PolicyConfig()


class TrackingConfig(Section):
    """MLflow tracking and registry."""

    uri: str | None = None
    """MLflow tracking URI; null = an SQLite file under ``storage``."""
    experiment: str = "driftline"
    model_name: str = "driftline"


def default_storage() -> Path:
    """``$DRIFTLINE_HOME`` or ``~/.driftline``."""
    return Path(os.environ.get("DRIFTLINE_HOME") or Path.home() / ".driftline")


class Config(Section):
    """The whole run."""

    name: str = Field("ml100k", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    storage: Path = Field(default_factory=default_storage)
    """Absolute root of everything written: runs, bundles, tracking."""
    data: DataConfig
    protocol: Protocol = "leave-one-out"
    """What the training data must not contain: the validation and test targets of this protocol."""
    text: TextConfig = TextConfig()
    encoder: EncoderConfig = EncoderConfig()
    heads: HeadsConfig = HeadsConfig()
    training: TrainingConfig = TrainingConfig()
    fusion: FusionConfig = FusionConfig()
    drift: DriftConfig = DriftConfig()
    ranking: RankingConfig = RankingConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if not self.storage.is_absolute():
            raise ValueError(
                f"storage={self.storage} must be an absolute path: a submitted job runs in a temporary copy"
            )
        if self.data.repeat_consumption and (self.encoder.mask_seen or self.drift.encoder.mask_seen):
            raise ValueError("data.repeat_consumption=true: set encoder.mask_seen and drift.encoder.mask_seen to false")
        if self.training.deepspeed.precision == "fp16" and not self.training.use_gpu:
            raise ValueError(
                "training.deepspeed.precision=fp16 needs training.use_gpu=true; on CPU choose fp32 or bf16"
            )
        return self

    def to_yaml(self) -> str:
        """Serialise so that :func:`parse_config` gives back an equal configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides, validate.

    Raises
    ------
    ConfigError
        With every fault at once.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise ConfigError([f"no such file: {path}" + (f"; there are: {', '.join(near)}" if near else "")], str(path))
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"not a YAML document: {error}"], str(path)) from error
    return parse_config(tree, overrides, source=str(path))


def parse_config(tree: Any, overrides: Sequence[str] = (), source: str = "configuration") -> Config:
    """Validate an already parsed tree with overrides applied on top."""
    if not isinstance(tree, dict):
        raise ConfigError([f"the document must be a mapping of sections, not {type(tree).__name__}"], source)
    tree = copy.deepcopy(tree)
    faults: list[str] = []
    for override in overrides:
        fault = _apply_override(tree, override)
        if fault:
            faults.append(fault)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        faults += [_fault_sentence(e) for e in error.errors()]
    if faults:
        raise ConfigError(faults, source)
    return config


def _apply_override(tree: dict[str, Any], override: str) -> str | None:
    """Write one ``a.b=c`` into the tree; a returned sentence says why that was impossible."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        return f"--set {override!r}: write it as section.key=value, for example training.epochs=2"
    *parents, last = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            return f"--set {override!r}: `{parent}` is a value, not a section"
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        node[last] = text
    return None


def _fault_sentence(error: Any) -> str:
    """Turn one pydantic error into: field, value, way out."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        valid = _valid_keys(error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), valid, n=1)
        hint = f" (did you mean `{close[0]}`?)" if close else ""
        return f"`{path}` = {error['input']!r}: unknown key{hint}; valid keys here: {', '.join(valid)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"`{path}`: {message}" if path else message
    return f"`{path}` = {error['input']!r}: {message}"


def _valid_keys(location: Sequence[str | int]) -> list[str]:
    """Field names of the section at ``location``."""
    section: Any = Config
    for part in location:
        annotation = section.model_fields[part].annotation
        options = [annotation, *get_args(annotation)]
        section = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), section)
    return list(section.model_fields)
