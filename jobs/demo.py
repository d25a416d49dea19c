"""The whole story on MovieLens-100K: fetch, fine-tune, evaluate, check drift, serve, and watch users change.

make demo        or: python jobs/demo.py [--config jobs/configs/demo.yaml] [--bundle DIR]
"""

import json
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

import driftline
from driftline.cli import run_job
from driftline.config import load_config
from driftline.samples import fetch_all
from driftline.sequences.dataset import load_dataset
from driftline.serving.demo import Steps, plot_visits, show_pair, show_visits, visit_all
from driftline.serving.keys import create_key
from driftline.serving.local_service import LocalService
from driftline.state.store import Store
from driftline.terminal import working

ROOT = Path(__file__).resolve().parent.parent


def main(
    config: Annotated[Path, typer.Option(help="What to train.")] = ROOT / "jobs/configs/demo.yaml",
    bundle: Annotated[Path | None, typer.Option(help="Skip training and evaluation: visit this bundle.")] = None,
    visits: Annotated[int, typer.Option(help="Changing users; as many control users beside them.", min=1)] = 5,
) -> None:
    """Run every step as a user would type it, then play visits against the live service."""
    console = Console()
    storage = load_config(config).storage
    steps = Steps(console, ROOT)
    steps.title("Sample data and model")
    fetch_all(storage)
    if bundle is None:
        result = storage / "demo" / "result.json"
        steps.run("Fine-tune", "jobs/train.py", "--config", str(config), "--result", str(result))
        bundle = Path(json.loads(result.read_text())["bundle"])
        steps.run("Evaluate", "jobs/evaluate.py", "--bundle", str(bundle))
        steps.run("Drift on held-out users", "jobs/drift_check.py", "--bundle", str(bundle), "--splices", "100")
    steps.title("Serve, and watch users change")
    model = driftline.load(bundle)
    dataset = load_dataset(model.config)
    folder = storage / "demo" / f"service-{time.strftime('%Y%m%d-%H%M%S')}"
    with (
        working(console, "the service starts") as tell,
        LocalService(bundle, folder, lambda s: tell(f"the service starts: {s:.0f} s")) as service,
    ):
        key = create_key(Store(service.database), "default", "demo", ["read", "write"])
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
            played = visit_all(client, model, dataset, visits, tell)
        tell("the service stops")
    show_pair(console, played, model)
    show_visits(console, played)
    plot_visits(played, folder / "visits.png")
    console.print(f"plot: {folder / 'visits.png'}", highlight=False, soft_wrap=True)
    steps.finish(bundle)


if __name__ == "__main__":
    run_job(main)
