"""Seconds per epoch of RecTools' SASRec; run by training_speed.py, in an environment that has RecTools alone.

python rectools_epoch.py EVENTS.inter '{"dim": 64, …}'

The loss is its softmax over all items; everything that is not given is RecTools' default, its batches of 128 too.
"""

import json
import statistics
import sys
import time
from importlib.metadata import version
from typing import Any, ClassVar

import pandas as pd
from pytorch_lightning import Callback, LightningModule, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

EPOCHS = 6


class Clock(Callback):
    """Seconds of every epoch, by the clock and of all cores together; RecTools trains with a copy of its callbacks."""

    seconds: ClassVar[list[tuple[float, float]]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._began = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End."""
        wall, cpu = self._began
        self.seconds.append((time.perf_counter() - wall, time.process_time() - cpu))


def main(events: str, encoder: dict[str, Any]) -> None:
    """Train, and print the figures as the last line."""
    columns = [Columns.User, Columns.Item, Columns.Weight, Columns.Datetime]
    table = pd.read_csv(events, sep="\t", header=0, names=columns)
    table[Columns.Datetime] = pd.to_datetime(table[Columns.Datetime], unit="s")

    def trainer(**_: Any) -> Trainer:
        return Trainer(
            max_epochs=EPOCHS, callbacks=[Clock()], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip

    model = SASRecModel(
        n_factors=encoder["dim"], n_blocks=encoder["layers"], n_heads=encoder["heads"], epochs=EPOCHS,
        session_max_len=encoder["window_events"], dropout_rate=encoder["dropout"], get_trainer_func=trainer,
    )  # fmt: skip
    model.fit(Dataset.construct(table))
    wall, cpu = zip(*Clock.seconds[1:], strict=True)  # the first epoch warms up
    figures = {"s_per_epoch": statistics.median(wall), "cpu_s_per_epoch": statistics.median(cpu)}
    print(json.dumps(figures | {"rectools": version("rectools"), "torch": version("torch")}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
