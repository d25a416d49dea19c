"""Domain adaptation in a whole run, and its validation figure."""

import io
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import driftline
from driftline.models.language_model import LanguageModel
from driftline.models.text_tower import Tokenizer
from driftline.sequences.dataset import load_dataset
from driftline.training.domain import domain_stage, validate_perplexity
from driftline.training.stage import Worker
from tests.tiny import tiny_config


class Uniform(LanguageModel):
    """Knows nothing: every token of the vocabulary is as likely as any other."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__(nn.Module(), nn.Linear(1, vocabulary))

    def surprise(self, tokens):  # type: ignore[no-untyped-def]
        count = tokens.mask_MT[:, 1:].sum()
        return count * math.log(self.head.out_features), count


@pytest.mark.parametrize("texts", [["Ranch of the Comet"], ["Ranch", "Silent Orbit (1950)", "Dusty Canyon 7"]])
def test_perplexity_of_a_model_that_knows_nothing_is_its_vocabulary(tiny_folder: Path, texts: list[str]) -> None:
    tokenizer = Tokenizer(tiny_config(tiny_folder).text.base, 48)
    for rank in range(2):  # two ranks, each by itself: the sums are not exchanged, the means are the same
        worker = Worker(rank=rank, world_size=2)
        figures = validate_perplexity(Uniform(40), tokenizer, texts, 1, worker)
        if rank == 0 or len(texts) > 1:
            assert figures == pytest.approx({"log-likelihood": -math.log(40), "perplexity": 40})


def test_the_stage_holds_out_a_seeded_tenth_of_the_texts(tiny_folder: Path) -> None:
    config = tiny_config(tiny_folder, ["text.domain.batch_texts=9"])
    catalog = load_dataset(config).catalog
    stage = domain_stage(config, catalog, Worker())
    read = {name for batch in stage.sampler.epoch(0) for name in stage.ids(batch)}
    assert len(catalog.ids) == 390
    assert stage.sampler.batches_per_epoch() == 351 // 9
    assert len(read) == 351
    again = domain_stage(config, catalog, Worker())
    assert {name for batch in again.sampler.epoch(3) for name in again.ids(batch)} == read


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_reads_its_catalogue_before_it_aligns(ray_cluster: str, tiny_folder: Path) -> None:
    from driftline.training.trainer import train

    overrides = [
        "text.domain={epochs: 2, batch_texts: 4, learning_rate: 1.0e-2}",
        "text.adapter={kind: lora, targets: all-linear}",
        "training.epochs=1",
        "drift.enabled=false",
    ]
    config = tiny_config(tiny_folder, [*overrides, f"storage={tiny_folder / 'domain'}"])
    torch.manual_seed(config.seed)
    before = domain_stage(config, load_dataset(config).catalog, Worker()).validate()
    result = train(config, Console(file=io.StringIO()))
    assert result.metrics["domain/perplexity"] < 0.8 * before["perplexity"]
    model = driftline.load(result.bundle)
    assert len(model.recommend(["i1", "i2", "i3"], k=5).items) == 5
