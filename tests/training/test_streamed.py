"""A whole training job whose ranking stage streams from disk."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import driftline
from driftline.sequences.dataset import load_dataset, ranking_split
from driftline.training.trainer import train
from tests.tiny import USERS, tiny_config

SAMPLE = 90


@pytest.mark.slow
def test_a_streamed_run_ends_with_a_bundle_that_knows_everybody(ray_cluster: str, tiny_folder: Path) -> None:
    """The tables are those of a sample; popularity, known items and the ranker's training are of all users."""
    options = ["data.ingest=ray-data", f"data.sample_users={SAMPLE}", "drift.enabled=false", "training.epochs=2"]
    config = tiny_config(tiny_folder, ["name=streamed", *options])
    done = train(config, Console(), target=tiny_folder / "streamed")
    model = driftline.load(done.bundle)
    memory = tiny_config(tiny_folder)
    everybody = load_dataset(memory)
    items = everybody.indices(ranking_split(everybody, memory).fit["item_id"])
    counts_N = np.bincount(items, minlength=len(everybody.catalog))
    assert model.item_ids == everybody.catalog.ids
    np.testing.assert_array_equal(model.contents.tables.popularity_N, counts_N)
    np.testing.assert_array_equal(model.contents.known_N.numpy(), counts_N > 0)
    sample = load_dataset(config)
    assert len(sample.users) == SAMPLE < USERS
    assert set(model.held_out_users) == set(sample.users_of("test"))
    assert np.isfinite(done.metrics["ranker/log-likelihood"])
