"""How an update reads on the screen and in a tracker."""

import io

from rich.console import Console

from driftline.training.progress import Update, _Lines


def test_a_line_holds_what_is_known() -> None:
    update = Update(
        stage="ranker",
        step=120,
        steps=800,
        epoch=3,
        loss=6.54321,
        throughput={"events/s": 12345.6, "tokens/s": 0.4},
        gauges={"learning_rate": 0.003, "gradient_norm": 0.5251, "memory_GiB": 1.26, "MFU": 0.4149},
        validation={"HR@10": 0.21456, "NDCG@10": 0.1},
        note="best so far",
    )
    assert update.line() == (
        "epoch 3 · loss 6.543 · 12,346 events/s · 0 tokens/s · lr 0.003 · norm 0.53 · 1.3 GiB · MFU 41% · "
        "HR@10 0.2146 · NDCG@10 0.1000 · best so far"
    )
    assert Update("text", 0, 10).line() == ""
    assert Update("text", 0, 10, loss=0.0).line() == "loss 0.000"


def test_figures_for_a_tracker_carry_their_stage_and_no_at_sign() -> None:
    figures = {"throughput": {"events/s": 10.0}, "gauges": {"MFU": 0.4}, "validation": {"NDCG@10": 0.25}}
    update = Update("ranker", 1, 2, loss=1.5, **figures, note="x")
    flat = {"ranker/events/s": 10.0, "ranker/MFU": 0.4, "ranker/NDCG_at_10": 0.25, "ranker/loss": 1.5}
    assert update.metrics() == flat
    assert Update("ranker", 1, 2).metrics() == {}


def test_a_job_log_gets_validations_and_notes_at_once_and_little_else() -> None:
    """What looks like markup is printed as it is."""
    console = Console(file=io.StringIO(), width=120)
    lines = _Lines(console)
    lines.show(Update("text", 1, 10, loss=2.0))
    lines.show(Update("text", 2, 10, loss=1.0, validation={"HR@10": 0.5}))
    lines.show(Update("text", 3, 10, note="[red]stopped[/red]"))
    lines.tick()
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "text 2/10 loss 1.000 · HR@10 0.5000",
        "text 3/10 [red]stopped[/red]",
    ]
