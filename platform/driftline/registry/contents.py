"""The parts of a bundle in memory, and how each is written and read."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from driftline.catalog.items import Catalog
from driftline.columns import Items
from driftline.config import Config, load_config
from driftline.drift.calibration import DriftCalibration
from driftline.drift.judge.judge import Judge
from driftline.drift.judge.prompt import Prompt
from driftline.models.adapters import load_adapter_state
from driftline.models.build import build_drift_model, build_judge, build_ranker
from driftline.models.collaborative import CollaborativeTables
from driftline.models.fusion import FusionGate
from driftline.models.recommender import Recommender
from driftline.sequences.user_attributes import UserAttributes

Weights = dict[str, torch.Tensor]
CATEGORY_SEPARATOR = "\x1f"
VERIFIER = "verifier_ND"
USER_ATTRIBUTES = "user_attributes.json"


@dataclass(frozen=True)
class Contents:
    """Everything that serving needs.

    Attributes
    ----------
    text_vectors_NT
        Vectors of the text tower, by catalogue index.
    text, ranker, drift
        Trained weights by parameter name; ``drift`` is None where drift is off.
    judge
        Trained weights of the LLM judge; None where there is none.
    verifier_ND
        float32: table of the verifier; None in bundles of before it.
    known_N, drift_known_N
        bool: items with training events of the ranking and of the drift model.
    held_out_users
        Users that the drift part saw neither in training nor in calibration.
    item_vectors_NV
        Vectors of other modalities than text, which the ranker reads; None where there are none.
    user_attributes
        Values of users' attributes that the ranker reads; who has which is not in the bundle.
    """

    config: Config
    catalog: Catalog
    text_vectors_NT: torch.Tensor
    text: Weights
    ranker: Weights
    known_N: torch.Tensor
    tables: CollaborativeTables
    gate: FusionGate
    drift: Weights | None
    drift_known_N: torch.Tensor | None
    calibration: DriftCalibration | None
    held_out_users: list[str]
    judge: Weights | None = None
    verifier_ND: torch.Tensor | None = None
    item_vectors_NV: torch.Tensor | None = None
    user_attributes: UserAttributes = field(default_factory=UserAttributes)

    def build_ranker(self) -> Recommender:
        """The ranking model with its trained weights, in evaluation mode."""
        texts, values = self.catalog.texts, self.user_attributes.size
        model = build_ranker(self.config, self.text_vectors_NT, self.known_N, self.item_vectors_NV, texts, values)
        load_adapter_state(model, self.ranker)
        return model.eval()

    def build_drift_model(self) -> Recommender:
        """The drift model with its trained weights, in evaluation mode."""
        assert self.drift is not None
        assert self.drift_known_N is not None
        model = build_drift_model(self.config, self.text_vectors_NT, self.drift_known_N)
        load_adapter_state(model, self.drift)
        return model.eval()

    def build_judge(self) -> Judge | None:
        """The LLM judge with its trained weights, where the bundle has one."""
        if self.judge is None:
            return None
        prompt = Prompt.of(self.config, self.catalog)
        model = build_judge(self.config, prompt.answers)
        load_adapter_state(model, self.judge)
        return Judge(model, prompt, self.config.drift.judge)

    def save(self, folder: Path) -> None:
        """Write every part into an existing directory."""
        (folder / "config.yaml").write_text(self.config.to_yaml(), encoding="utf-8")
        _write_catalog(self.catalog, folder / "items.parquet")
        save_file({"vectors": self.text_vectors_NT.contiguous()}, folder / "text_vectors.safetensors")
        if self.item_vectors_NV is not None:
            save_file({"vectors": self.item_vectors_NV.contiguous()}, folder / "item_vectors.safetensors")
        save_file(self.text, folder / "text.safetensors")
        save_file({**self.ranker, "known_N": self.known_N}, folder / "ranker.safetensors")
        save_arrays(self.tables.to_arrays(), folder / "collaborative.safetensors")
        save_file(dict(self.gate.state_dict()), folder / "gate.safetensors")
        (folder / "users.json").write_text(json.dumps({"held_out": self.held_out_users}), encoding="utf-8")
        if self.drift is not None and self.drift_known_N is not None and self.calibration is not None:
            verifier = {} if self.verifier_ND is None else {VERIFIER: self.verifier_ND}
            save_file({**self.drift, "known_N": self.drift_known_N, **verifier}, folder / "drift.safetensors")
            (folder / "drift_calibration.json").write_text(self.calibration.to_json(), encoding="utf-8")
        if self.user_attributes.values:
            (folder / USER_ATTRIBUTES).write_text(json.dumps(self.user_attributes.values), encoding="utf-8")
        if self.judge is not None:
            save_file(self.judge, folder / "judge.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "Contents":
        """Read what :meth:`save` wrote."""
        config = load_config(folder / "config.yaml")
        ranker = load_file(folder / "ranker.safetensors")
        gate = FusionGate(config.fusion.components, config.encoder.target_gap)
        gate.load_state_dict(load_file(folder / "gate.safetensors"))
        drift, drift_known_N, calibration, verifier_ND = None, None, None, None
        item_vectors, attributes = folder / "item_vectors.safetensors", folder / USER_ATTRIBUTES
        if (folder / "drift.safetensors").is_file():
            drift = load_file(folder / "drift.safetensors")
            drift_known_N, verifier_ND = drift.pop("known_N"), drift.pop(VERIFIER, None)
            calibration = DriftCalibration.from_json((folder / "drift_calibration.json").read_text(encoding="utf-8"))
        return cls(
            config=config,
            catalog=_read_catalog(folder / "items.parquet", config.data.repeat_consumption),
            text_vectors_NT=load_file(folder / "text_vectors.safetensors")["vectors"],
            text=load_file(folder / "text.safetensors"),
            known_N=ranker.pop("known_N"),
            ranker=ranker,
            tables=CollaborativeTables.from_arrays(load_arrays(folder / "collaborative.safetensors")),
            gate=gate,
            drift=drift,
            drift_known_N=drift_known_N,
            calibration=calibration,
            held_out_users=json.loads((folder / "users.json").read_text(encoding="utf-8"))["held_out"],
            judge=load_file(folder / "judge.safetensors") if (folder / "judge.safetensors").is_file() else None,
            verifier_ND=verifier_ND,
            item_vectors_NV=load_file(item_vectors)["vectors"] if item_vectors.is_file() else None,
            user_attributes=UserAttributes(json.loads(attributes.read_text("utf-8")) if attributes.is_file() else {}),
        )


def _write_catalog(catalog: Catalog, path: Path) -> None:
    pd.DataFrame(
        {
            Items.ITEM: catalog.ids,
            Items.TITLE: catalog.titles,
            Items.YEAR: catalog.years,
            Items.CATEGORIES: [CATEGORY_SEPARATOR.join(names) for names in catalog.categories],
            Items.TEXT: catalog.texts,
        }
    ).to_parquet(path, index=False)


def _read_catalog(path: Path, repeat_consumption: bool) -> Catalog:
    table = pd.read_parquet(path)
    return Catalog(
        ids=table[Items.ITEM].tolist(),
        titles=table[Items.TITLE].tolist(),
        years=table[Items.YEAR].tolist(),
        categories=[tuple(filter(None, names.split(CATEGORY_SEPARATOR))) for names in table[Items.CATEGORIES]],
        texts=table[Items.TEXT].tolist(),
        repeat_consumption=repeat_consumption,
    )
