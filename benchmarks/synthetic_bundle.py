"""A bundle of any size, for measuring speed: generated events, real collaborative tables, untrained networks.

python -m benchmarks.synthetic_bundle --items 200000 --out DIR        (then: driftline serve --bundle DIR)

Events come from the generator of synthetic logs (tastes, Zipf's law inside a taste), tables and files from the code
that training uses. Encoders have the default sizes and random weights, text vectors lie around the centre of their
taste and the item table turns them without changing their angles, the gate weighs all components alike, and P(drift) is
low for everybody: time depends on none of it.
"""

import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from driftline.catalog.items import Catalog
from driftline.catalog.text import compose
from driftline.cli import run_job
from driftline.columns import Events, Items
from driftline.config import Config, parse_config
from driftline.drift.calibration import DriftCalibration, OrderCalibration
from driftline.drift.evidence import FEATURES
from driftline.evaluation.provenance import versions
from driftline.events.synthetic import SyntheticLog, write_synthetic_log
from driftline.models.adapters import adapter_state
from driftline.models.build import TEXT_VECTOR_DIM, build_drift_model, build_ranker, build_text_tower
from driftline.models.collaborative import CollaborativeTables
from driftline.models.fusion import FusionGate
from driftline.registry.bundle import Manifest, now, write_bundle
from driftline.registry.contents import Contents

ITEMS_PER_TASTE, EVENTS_PER_USER = 500, 50
SEED = 7


def main(
    items: Annotated[int, typer.Option(min=1000, help="Catalogue size, rounded down to a multiple of 500.")],
    out: Annotated[Path, typer.Option(help="Directory of the bundle; must not exist.")],
    events_per_item: Annotated[int, typer.Option(min=1, help="Events on average.")] = 20,
) -> None:
    """Generate, fit, write; says how long each took."""
    console, started = Console(highlight=False), time.perf_counter()

    def tell(what: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        console.print(f"{time.perf_counter() - started:6.0f} s, peak {peak:.1f} GiB: {what}")

    tastes = items // ITEMS_PER_TASTE
    items = tastes * ITEMS_PER_TASTE
    with TemporaryDirectory(prefix="driftline-events-") as folder:
        events = items * events_per_item
        log = write_synthetic_log(Path(folder), events, events // EVENTS_PER_USER, items, SEED, tastes=tastes)
        tell(f"generated {events:,} events of {events // EVENTS_PER_USER:,} users")
        sequences, catalog = _sequences(log), _catalog(log)
    config = _config(items)
    limit = config.ranking.dense_tables_up_to
    tables = CollaborativeTables.fit(sequences, items, limit, with_co_occurrence=False)
    tell(f"fitted {', '.join(tables.names)}")
    contents = _contents(config, catalog, tables, tastes)
    manifest = Manifest(
        id=out.name, protocol=config.protocol, seed=SEED, data_fingerprint="0" * 64, base_model=config.text.base,
        base_sha256="", metrics={}, versions=versions(), created=now(),
    )  # fmt: skip
    write_bundle(out, contents.save, lambda: manifest)
    tell(f"wrote {out}, {sum(path.stat().st_size for path in out.iterdir()) / 2**20:,.0f} MiB")


def _config(items: int) -> Config:
    """The defaults, with the item-item component that a catalogue of this size gets."""
    raw = {"name": "synthetic", "seed": SEED, "data": {"interactions": "generated.parquet"}}
    config = parse_config(raw)
    item_item = "ease-recency" if items <= config.ranking.dense_tables_up_to else "item-knn-recency"
    return parse_config(raw | {"fusion": {"components": ["neural", item_item, "markov", "popularity", "attention"]}})


def _sequences(log: SyntheticLog) -> list[NDArray[np.int64]]:
    """Item indices of each user, oldest first; files are in order of time."""
    users, items = [], []
    for path in sorted(log.events.iterdir()):
        table = pd.read_parquet(path, columns=[Events.USER, Events.ITEM])
        users.append(table[Events.USER].str.slice(1).to_numpy(dtype=np.int64))
        items.append(table[Events.ITEM].str.slice(1).to_numpy(dtype=np.int64))
    user = np.concatenate(users)
    order = np.argsort(user, kind="stable")
    borders = np.flatnonzero(np.diff(user[order])) + 1
    return np.split(np.concatenate(items)[order], borders)


def _catalog(log: SyntheticLog) -> Catalog:
    table = pd.read_parquet(log.items)
    titles, categories = table[Items.TITLE].tolist(), [(name,) for name in table[Items.CATEGORIES]]
    texts = [compose(title, "", names) for title, names in zip(titles, categories, strict=True)]
    return Catalog(table[Items.ITEM].tolist(), titles, [""] * len(titles), categories, texts)


def _contents(config: Config, catalog: Catalog, tables: CollaborativeTables, tastes: int) -> Contents:
    torch.manual_seed(SEED)
    centres = torch.randn(tastes, TEXT_VECTOR_DIM).repeat_interleave(ITEMS_PER_TASTE, dim=0)
    vectors = torch.nn.functional.normalize(centres + torch.randn_like(centres), dim=-1)
    counts_N = torch.from_numpy(tables.popularity_N)
    ranker, drift = (build(config, vectors, counts_N > 0) for build in (build_ranker, build_drift_model))
    for model in (ranker, drift):
        model.items.start_from_popularity(counts_N)
        torch.nn.init.orthogonal_(model.items.project.weight)
    nothing = (0.0,) * len(FEATURES)
    never = OrderCalibration(
        FEATURES, nothing, (1.0,) * len(FEATURES), nothing, intercept=-4.0, prevalence=0.5, threshold=1e9
    )
    calibration = DriftCalibration(200, never, never)
    return Contents(
        config=config, catalog=catalog, text_vectors_NT=vectors,
        text={f"tower.{name}": tensor for name, tensor in adapter_state(build_text_tower(config)).items()},
        ranker=adapter_state(ranker), known_N=counts_N > 0, tables=tables, gate=FusionGate(config.fusion.components),
        drift=adapter_state(drift), drift_known_N=counts_N > 0, calibration=calibration, held_out_users=[],
        verifier_ND=torch.randn(len(counts_N), config.drift.encoder.dim),
    )  # fmt: skip


if __name__ == "__main__":
    run_job(main)
