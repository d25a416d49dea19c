"""The bundle that a whole training job leaves behind, and what it tells when it cannot go on."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import driftline
from driftline.errors import TrainingError
from driftline.registry.bundle import open_bundle
from driftline.registry.model import Model
from driftline.sequences.dataset import load_dataset
from tests.tiny import GENRES, ITEMS_PER_TASTE, tiny_config


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return driftline.load(tiny_bundle)


@pytest.fixture(scope="module")
def histories(model: Model) -> dict[str, list[str]]:
    """Item ids of every user, oldest first."""
    dataset = load_dataset(model.config)
    found = dataset.histories(dataset.events)
    return {user: [model.item_ids[item] for item in history.items] for user, history in found.items()}


def taste(item: str) -> int:
    """Number of an item's taste."""
    return int(item.removeprefix("i")) // ITEMS_PER_TASTE


@pytest.mark.slow
def test_the_bundle_recommends_what_the_user_has_not_had(model: Model, histories: dict[str, list[str]]) -> None:
    history = histories["u0"][:50]
    found = model.recommend(history, k=10)
    assert len(found.items) == 10
    assert not {entry.item_id for entry in found.items} & set(history)
    assert np.diff([entry.score for entry in found.items]).max() <= 0


@pytest.mark.slow
def test_the_model_has_learnt_tastes(model: Model, histories: dict[str, list[str]]) -> None:
    """A third of the list would be of the own taste by chance; four of five of a user's events are."""
    own = [
        taste(entry.item_id) == int(user.removeprefix("u")) % len(GENRES)
        for user in model.held_out_users
        for entry in model.recommend(histories[user][:60], k=10).items
    ]
    assert np.mean(own) > 0.6


@pytest.mark.slow
def test_a_change_of_taste_is_noticed(model: Model, histories: dict[str, list[str]]) -> None:
    """Users that the drift part never saw, 40 events of their own and then 30 of another's; or 70 of their own."""
    rng = np.random.default_rng(1)
    shuffled = {user: list(rng.permutation(histories[user])) for user in model.held_out_users}
    changed, steady = [], []
    for user, history in shuffled.items():
        others = [other for other in shuffled if (int(other[1:]) - int(user[1:])) % len(GENRES)]
        news = [item for item in shuffled[rng.choice(others)] if item not in set(history[:40])][:30]
        changed.append(model.drift(history[:40] + news).p_drift)
        steady.append(model.drift(history[:70]).p_drift)
    above = np.array(changed)[:, None] > np.array(steady)[None]
    assert above.mean() > 0.8  # AUROC


@pytest.mark.slow
def test_tracker_and_registry_know_the_run(model: Model, tiny_bundle: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{model.config.storage / 'mlflow.db'}")
    version = client.get_model_version_by_alias(model.config.tracking.model_name, "champion")
    assert version.source == str(tiny_bundle)
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.deepspeed.zero_stage"] == "2"
    figures = open_bundle(tiny_bundle)[1].metrics
    assert run.data.metrics["validation/NDCG_at_10"] == figures["validation/NDCG@10"]
    heard = client.get_metric_history(version.run_id, "ranker/log-likelihood")
    assert max(point.value for point in heard) == figures["ranker/log-likelihood"]  # what the epoch is chosen by
    assert {10, 20, 30} <= {point.step for point in heard}  # 6 epochs of 5 steps, validated every other


def test_a_run_that_is_not_there_cannot_be_resumed(tiny_folder: Path) -> None:
    from driftline.training.trainer import train

    config = tiny_config(tiny_folder, [f"storage={tiny_folder / 'empty'}"])
    with pytest.raises(TrainingError, match=r"no run 'gone' under .*runs; there are: none"):
        train(config, Console(file=io.StringIO()), resume="gone")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_with_stage_epoch_and_step(ray_cluster: str, tiny_folder: Path) -> None:
    from driftline.training.trainer import train

    overrides = ["text.epochs=0", "training.learning_rate=1e30", "training.max_failures=0", "name=diverges"]
    with pytest.raises(
        TrainingError, match=r"stage ranker: loss is (nan|inf) at epoch \d, step \d on rank \d; lower the"
    ):
        train(tiny_config(tiny_folder, overrides), Console(file=io.StringIO()))
