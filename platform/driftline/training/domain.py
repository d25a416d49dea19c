"""Domain adaptation: before alignment, the language model learns to read texts such as the catalogue's.

Continued causal-LM training (Gururangan et al. 2020, "Don't stop pretraining") of the weights that alignment goes on
with: the adapter, or under full fine-tuning everything.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.catalog import Catalog
from driftline.config import Config
from driftline.models.adapters import describe_adapter
from driftline.models.build import base_model, build_language_model
from driftline.models.language_model import LanguageModel
from driftline.models.text_sampler import TextSampler
from driftline.models.text_tower import Tokenizer
from driftline.training.stage import Stage, Worker
from driftline.training.validation import in_step, mean_over_ranks

HELD_OUT = 0.1
"""Share of the texts that measure perplexity."""


def domain_stage(config: Config, catalog: Catalog, worker: Worker) -> Stage:
    """The stage over the catalogue's texts; a seeded tenth of them is held out for validation.

    Raises
    ------
    ConfigError
        If the base is no causal language model.
    """
    options, tokenizer = config.text.domain, Tokenizer(base_model(config), config.text.max_tokens)
    held_out, fit = domain_items(len(catalog.ids), config.seed)
    model = build_language_model(config)
    texts = [catalog.texts[item] for item in held_out]
    return Stage(
        name="domain",
        module=model,
        sampler=TextSampler(tokenizer, catalog.texts, fit, options.batch_texts, config.seed),
        loss=lambda engine, batch: engine(batch[0].to(worker.device)),
        counts=lambda batch: {"items": len(batch[1]), "tokens": int(batch[0].mask_MT.sum())},
        ids=lambda batch: [catalog.ids[item] for item in batch[1].tolist()],
        validate=partial(validate_perplexity, model, tokenizer, texts, options.batch_texts, worker),
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch_size=options.batch_texts,
        validate_every_epochs=1,
        adapter=describe_adapter(model, config.text.adapter),
    )


def domain_items(num_items: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Item indices whose texts measure perplexity, and those whose texts are trained on."""
    order = np.random.default_rng(seed).permutation(num_items)
    held_out, fit = np.split(order, [math.ceil(num_items * HELD_OUT)])
    return held_out, fit


@torch.no_grad()
def validate_perplexity(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[str], batch_texts: int, worker: Worker
) -> dict[str, float]:
    """Mean log-likelihood of a token of held-out texts (nats, higher is better), and the perplexity that it means."""
    ordered = sorted(texts, key=len)
    batches = [ordered[start : start + batch_texts] for start in range(0, len(ordered), batch_texts)]
    total, count = 0.0, 0
    for batch, counts in in_step(batches, worker.rank, worker.world_size):
        surprise, tokens = model.surprise(tokenizer(batch).to(worker.device))
        if counts:
            total -= float(surprise)
            count += int(tokens)
    figures = mean_over_ranks({"log-likelihood": total}, count, worker.device)
    return {**figures, "perplexity": math.exp(-figures["log-likelihood"])}
