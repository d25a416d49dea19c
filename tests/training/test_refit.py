"""Once the validation targets have been used, what came before the test is learnt too."""

from pathlib import Path

import torch

from driftline.models.adapters import load_adapter_state
from driftline.models.build import TEXT_VECTOR_DIM, build_ranker
from driftline.sequences.dataset import load_dataset
from driftline.training.assemble import refitted
from driftline.training.checkpoints import Progress, Snapshot
from driftline.training.stage import Worker
from driftline.training.stages import Stages, ranking_targets
from driftline.training.validation import validate_ranking
from tests.tiny import USERS, tiny_config


def test_after_the_refit_ranker_and_tables_know_the_validation_events(
    one_rank: None, tiny_folder: Path, tmp_path: Path
) -> None:
    users = tmp_path / "users.csv"
    users.write_text("user_id,trade\n" + "".join(f"u{n},{('smith', 'nurse', 'king')[n % 3]}\n" for n in range(USERS)))
    options = [f"data.users={users}", "data.user_attributes=[trade]"]
    options += ["training.epochs=2", "training.refit_epochs=3", "training.average=0.5", "protocol=temporal-successive"]
    config = tiny_config(tiny_folder, [*options, "training.validate_every_epochs=1"])
    dataset = load_dataset(config)
    newest = dataset.before_test
    assert len(newest.split.fit) == len(dataset.split.train) > len(dataset.split.fit)
    assert newest.before_test is newest
    vectors = torch.nn.functional.normalize(
        torch.randn(len(dataset.catalog), TEXT_VECTOR_DIM, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    snapshot = Snapshot(Progress(), done={"text_vectors": {"vectors": vectors}})
    stages = Stages(config, dataset, Worker(), snapshot, None)
    stages.ranker()
    stages.refit()
    assert snapshot.progress.finished["refit"] == {"epochs": 3.0}  # nothing chose among them: the last is kept
    parts = refitted(config, newest, snapshot)
    counts_N = parts["tables"].popularity_N  # type: ignore[attr-defined]
    assert counts_N.sum() == len(dataset.split.train)
    assert torch.equal(parts["known_N"], torch.from_numpy(counts_N > 0))  # type: ignore[arg-type]
    targets = ranking_targets(dataset, dataset.split.validation)

    def likelihood(stage: str) -> float:
        model = build_ranker(config, vectors, torch.from_numpy(counts_N > 0), attribute_values=3)
        load_adapter_state(model, snapshot.done[stage])
        return validate_ranking(model.eval(), targets, 0, 1, torch.device("cpu"), mask_seen=True)["log-likelihood"]

    assert likelihood("refit") > likelihood("ranker")
    of_trades = snapshot.done["refit"]["encoder.attribute.weight"]
    assert not of_trades[0].any()  # what is unknown says nothing, whatever the optimiser and the averages did
    assert of_trades[1:].norm(dim=1).min() > 1e-3


def test_where_validation_is_no_training_there_is_no_refit(one_rank: None, tiny_folder: Path) -> None:
    config = tiny_config(tiny_folder)
    dataset = load_dataset(config)
    assert dataset.before_test is dataset
    snapshot = Snapshot(Progress(), done={"ranker": {}})
    Stages(config, dataset, Worker(), snapshot, None).refit()
    assert snapshot.done == {"ranker": {}}
