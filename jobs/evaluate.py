"""Measure a bundle beside honest baselines.

python jobs/evaluate.py --bundle DIR --protocol leave-one-out --protocol temporal-successive --dump ranks.parquet
"""

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

import driftline
from driftline.cli import run_job
from driftline.errors import ConfigError
from driftline.evaluation.protocols import ProtocolResult, baselines_of, evaluate
from driftline.evaluation.provenance import provenance
from driftline.evaluation.report import as_json, table
from driftline.registry.model import Model
from driftline.registry.served import score_functions
from driftline.sequences.dataset import load_dataset
from driftline.terminal import counting

DRIFT_EVERY_EVENTS = {"leave-one-out": 1, "temporal-successive": 10}


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle directory, as printed by jobs/train.py.")],
    protocol: Annotated[list[str] | None, typer.Option(help="leave-one-out, temporal-successive; repeatable.")] = None,
    dump: Annotated[Path | None, typer.Option(help="Parquet file: one row per target and model.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file with every figure; default beside the bundle.")] = None,
) -> None:
    """Rank every held-out target with the model and with the untrained models of its bundle."""
    console = Console()
    model = driftline.load(bundle)
    results = [_measure(model, name, console) for name in _protocols(protocol or [model.config.protocol])]
    target = out or model.config.storage / "evaluations" / f"{model.version}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    source = provenance(model.config.model_dump(mode="json"), model.config.seed)
    figures = {"bundle": model.version, "results": [as_json(r) for r in results], **source}
    target.write_text(json.dumps(figures, indent=2))
    console.print(f"figures {target}", soft_wrap=True, highlight=False)
    if dump is not None:
        pd.concat([result.rows for result in results]).to_parquet(dump, index=False)
        console.print(f"ranks   {dump}", soft_wrap=True, highlight=False)


def _protocols(names: list[str]) -> list[str]:
    valid = list(DRIFT_EVERY_EVENTS)
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise ConfigError([f"--protocol {name}: unknown; valid: {', '.join(valid)}" for name in unknown])
    return names


def _measure(model: Model, protocol: str, console: Console) -> ProtocolResult:
    if model.config.protocol != protocol:
        from driftline.training.sibling import for_protocol

        model = for_protocol(model, protocol, console)  # type: ignore[arg-type]
    dataset = load_dataset(model.config)
    tables = model.contents.tables
    with counting(console, f"ranking {protocol}") as tell:
        result = evaluate(
            dataset,
            dataset.split.test,
            {**baselines_of(tables), **score_functions(model, DRIFT_EVERY_EVENTS[protocol])},
            tables.popularity_N,
            model.config.seed,
            tell,
        )
    trained_on = int(tables.popularity_N.sum())
    note = f"All models learnt from the same {trained_on:,} events; seed {model.config.seed}."
    if DRIFT_EVERY_EVENTS[protocol] > 1:
        note += f" Drift states are worked out every {DRIFT_EVERY_EVENTS[protocol]} events of a user."
    console.print(table(result, note))
    for baseline in (f"{tables.item_item}-recency", "markov"):
        gain = result.paired("driftline", baseline, "NDCG@10")
        console.print(f"NDCG@10, driftline minus {baseline}, paired by target: {gain}", highlight=False)
    return result


if __name__ == "__main__":
    run_job(main)
