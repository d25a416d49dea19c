"""What a benchmark leaves: benchmark.json, streams.parquet, report.html with its figures."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from driftline.drift.benchmark import plots
from driftline.drift.benchmark.bars import FUSED, Bar, bars
from driftline.drift.benchmark.downstream import AGAINST_STEADY, ALL_AGES, LABELS, downstream_figures
from driftline.drift.benchmark.downstream import AGES as LIST_AGES
from driftline.drift.benchmark.figures import Sample, alarm_delays, track_figures
from driftline.drift.benchmark.judge_figures import in_words, judge_figures
from driftline.drift.benchmark.resampling import Estimate, Resamples, plain
from driftline.drift.benchmark.trial import AGES, RUN_LENGTHS, Trial
from driftline.drift.classification import WITHIN_EVENTS
from driftline.drift.detectors.contract import WARM_UP_EVENTS
from driftline.evaluation.page import STYLE, image
from driftline.evaluation.page import table as _table


@dataclass(frozen=True)
class Report:
    """What the written report says."""

    bars: list[Bar]
    figures: Mapping[str, Any]
    """By track."""

    def of_the_judge(self) -> list[str]:
        """A line for every track that a judge was asked about."""
        judged = {track: found["judge"] for track, found in self.figures.items() if "judge" in found}
        return [f"track {track}: " + " ".join(in_words(found)) for track, found in judged.items()]


def write_report(
    trials: Mapping[str, Sequence[Trial]],
    replays: Mapping[str, Sequence[Trial]],
    folder: Path,
    source: Mapping[str, Any],
    opinions: Mapping[str, Sequence[Trial]] | None = None,
) -> Report:
    """Write every file of the report.

    Parameters
    ----------
    trials
        By track, in the order of the seeds.
    replays
        Of the tracks that are replayed, likewise.
    folder
        Where the files go.
    source
        What it was measured with.
    opinions
        The judge's, of the same tracks and seeds; None without a judge.
    """
    figures = {track: track_figures(of_track) for track, of_track in trials.items()}
    for track, of_track in replays.items():
        figures[track]["downstream"] = downstream_figures(of_track)
    for track, of_track in (opinions or {}).items():
        figures[track]["judge"] = judge_figures(of_track)
    reached = bars(figures, trials)
    plain = {"bars": [asdict(bar) for bar in reached], "tracks": as_json(figures), **source}
    (folder / "benchmark.json").write_text(json.dumps(as_json(plain), indent=1))
    pd.concat([stream_rows(trial) for of_track in trials.values() for trial in of_track]).to_parquet(
        folder / "streams.parquet", index=False
    )
    sections = [_section(track, figures[track], trials[track], folder) for track in trials]
    (folder / "report.html").write_text(_page(reached, sections, source), encoding="utf-8")
    return Report(reached, figures)


def bar_table(reached: Sequence[Bar]) -> Table:
    """What was wanted and what was reached, for a terminal."""
    sheet = Table(title="What must hold")
    for title in ("", "wanted", "value", "±", "oracle", ""):
        sheet.add_column(title, justify="left" if not title else "right")
    for bar in reached:
        figures = ("–" if np.isnan(figure) else f"{figure:.3g}" for figure in (bar.value, bar.error, bar.oracle))
        sheet.add_row(bar.what, bar.wanted, *figures, "yes" if bar.reached else "[red]no[/red]")
    return sheet


def as_json(value: Any) -> Any:
    """Plain values: estimates as dictionaries, what is not known as None; infinity (a missed change) as "inf"."""
    if isinstance(value, Estimate):
        return value.as_json()
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float | np.floating):
        return plain(float(value))
    return value


def stream_rows(trial: Trial) -> pd.DataFrame:
    """The classifier after every event of every stream; ``t`` counts from 1, alarms are at ARL 200."""
    rows = trial.rows
    lengths = rows[FUSED].map(len).to_numpy()
    columns = ["stream_id", "user", "other", "track", "kind", "severity", "seed", "label", "k"]
    table = rows.loc[np.repeat(rows.index, lengths), columns].reset_index(drop=True)
    table["t"] = np.concatenate([np.arange(1, length + 1) for length in lengths])
    table["statistic"] = np.concatenate(rows[FUSED].tolist())
    table["p_drift"] = np.concatenate(rows["p_drift"].tolist())
    threshold = trial.summary["thresholds"][FUSED]["200"]
    table["alarm"] = (table["statistic"] >= threshold) & (table["t"] > WARM_UP_EVENTS)
    return table


def _section(track: str, figures: Mapping[str, Any], trials: Sequence[Trial], folder: Path) -> str:
    users = {str(user) for trial in trials for column in ("user", "other") for user in trial.rows[column].dropna()}
    resamples = Resamples(sorted(users), 0)
    samples = [Sample.of(trial, resamples) for trial in trials]
    names = [name for name in plots.SHOWN if name in figures["detectors"]]
    images = []

    def draw(name: str, function: Any, *arguments: Any) -> None:
        path = folder / f"{track}-{name}.png"
        function(*arguments, path)
        images.append(_image(path))

    draw("delay-vs-arl", plots.delay_against_arl, samples, names)
    draw("roc", plots.roc, samples, names)
    draw("reliability", plots.reliability, samples)
    if any(kind.startswith("noise") for kind in figures["variants"]):
        draw("robustness", plots.robustness, figures["variants"], figures["detectors"][FUSED])
    draw("timelines", plots.timelines, samples[0])
    downstream = ""
    if "downstream" in figures:
        draw("downstream", plots.gains, figures["downstream"]["gain"])
        downstream = _downstream(figures["downstream"])
    seeds = ", ".join(map(str, figures["seeds"]))
    return (
        f"<h2>Track {track}</h2><p>{figures['streams']} streams of test users; seeds {seeds}.</p>"
        f"<h3>Detectors</h3>{_detector_table(figures)}"
        f"<h3>The change point is given (pair AUROC)</h3>{_split_table(figures)}"
        f"<h3>The classifier by severity and kind of change</h3>{_variant_table(figures)}"
        f"<h3>Classification at ARL 200: alarm within {WITHIN_EVENTS} events</h3>"
        f"<pre>{alarm_delays(samples, FUSED, '200').report()}</pre>"
        f"<h3>P(drift)</h3>{_probability_table(figures)}"
        f"<p>Change point off by (median) {figures['change_point_error']} events.</p>"
        + (_judge(figures["judge"]) if "judge" in figures else "")
        + downstream
        + "".join(images)
    )


def _downstream(figures: Mapping[str, Any]) -> str:
    """Gains over the steady policy, by severity and events since the change."""
    head = ["over the steady policy", "B", "events since the change"]
    head += [f"{measure}, {part}" for measure in figures["gain"] for part in (*LABELS, "difference")]
    rows = []
    for policy in AGAINST_STEADY:
        for severity, found in {"all": figures["gain"], **figures["gain_by_severity"]}.items():
            for ages in LIST_AGES if severity == "all" else (ALL_AGES, "1-5"):
                cells = [found[measure][policy][ages] for measure in found]
                rows.append([policy, severity, ages, *(_fine(part) for cell in cells for part in cell.values())])
    acted = " and ".join(f"{figures['acted_per_1000'][label]} ({label})" for label in LABELS)
    whole = ", ".join(
        f"{measure} {found[label]} ({label})" for measure, found in figures["whole_history"].items() for label in LABELS
    )
    return (
        f"<h3>Lists</h3><p>{figures['lists']} lists of each policy. Of 1,000 the mixture makes {acted} otherwise than "
        f"the steady policy, which reaches {whole}. Random alarms are as many in all.</p>{_table(head, rows)}"
    )


def _fine(value: Estimate) -> str:
    return f"{value.mean:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def _judge(figures: Mapping[str, Any]) -> str:
    """What the LLM judge adds, by splits that are given and on alarms."""
    rows = [[name, *(str(found[str(age)]) for age in AGES)] for name, found in figures["pair_auroc"].items()]
    rows += [[f"gain of {name}", *(_fine(found[str(age)]) for age in AGES)] for name, found in figures["gain"].items()]
    said = "".join(f"<p>{html.escape(line)}</p>" for line in in_words(figures))
    return f"<h3>The LLM judge (pair AUROC)</h3>{_table(['', *(f'W={age}' for age in AGES)], rows)}{said}"


def _detector_table(figures: Mapping[str, Any]) -> str:
    head = ["detector", *(f"stream AUROC, W={age}" for age in AGES)]
    for arl in RUN_LENGTHS:
        head += [f"ARL {arl}: ≤{age}" for age in AGES] + ["median delay", "F1@20", "achieved ARL", "per 1,000"]
    rows = []
    for name, found in figures["detectors"].items():
        cells = [name, *(str(found["stream_auroc"][str(age)]) for age in AGES)]
        for arl in RUN_LENGTHS:
            at = found["at_arl"][str(arl)]
            cells += [f"{at[f'detected_within_{age}'].mean:.2f}" for age in AGES]
            cells += [f"{at['median_delay'].mean:.0f}", f"{at['f1_20'].mean:.2f}"]
            achieved = at["achieved_arl"]
            cells += [f"{achieved.mean:.0f} [{achieved.low:.0f}, {achieved.high:.0f}]"]
            cells += [f"{at['false_alarms_per_1000'].mean:.1f}"]
        rows.append(cells)
    return _table(head, rows)


def _split_table(figures: Mapping[str, Any]) -> str:
    rows = [[name, *(str(found[str(age)]) for age in AGES)] for name, found in figures["split_auroc"].items()]
    return _table(["statistic", *(f"W={age}" for age in AGES)], rows)


def _variant_table(figures: Mapping[str, Any]) -> str:
    every = {"all": figures["detectors"][FUSED], **figures["severity"], **figures["variants"]}
    rows = []
    for name, found in every.items():
        at = found["at_arl"]["200"]
        cells = [str(found["stream_auroc"][str(age)]) for age in AGES]
        rows.append([name, *cells, *(f"{at[f'detected_within_{age}'].mean:.2f}" for age in AGES)])
    return _table(["", *(f"stream AUROC, W={age}" for age in AGES), *(f"ARL 200: ≤{age}" for age in AGES)], rows)


def _probability_table(figures: Mapping[str, Any]) -> str:
    rows = [
        [f"{found['prior']:.0%} drifted", str(found["brier"]), str(found["ece"])]
        for found in figures["probability"].values()
    ]
    return _table(["prevalence", "Brier score", "expected calibration error"], rows)


def _page(reached: Sequence[Bar], sections: Sequence[str], source: Mapping[str, Any]) -> str:
    rows = []
    for bar in reached:
        kind = "" if bar.reached else ' class="missed"'
        figures = ("–" if np.isnan(figure) else f"{figure:.3g}" for figure in (bar.value, bar.error, bar.oracle))
        cells = "".join(f"<td>{text}</td>" for text in (html.escape(bar.wanted), *figures))
        rows.append(f"<tr{kind}><td>{html.escape(bar.what)}</td>{cells}<td>{'yes' if bar.reached else 'no'}</td></tr>")
    titles = ("", "wanted", "value", "standard error", "oracle", "reached")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Drift benchmark</title><style>{STYLE}</style></head><body>
<h1>Drift benchmark</h1>
<p>Figures: mean over seeds ± standard error [95 % interval that resamples users]. Thresholds are calibrated on users
that are neither trained on nor tested on.</p>
<table><tr>{head}</tr>{"".join(rows)}</table>
{"".join(sections)}
<h2>Measured with</h2><pre>{html.escape(json.dumps(source, indent=1))}</pre>
</body></html>
"""


def _image(path: Path) -> str:
    return image(path.read_bytes(), path.stem)
