"""Figures of the LLM judge: what it adds to the classifier, and how it adjudicates its alarms.

Shape legend: R resamples, P drifted streams or true alarms, Q undrifted streams or false alarms.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from driftline.drift.benchmark.figures import RESAMPLES
from driftline.drift.benchmark.judged import CLASSIFIER, SPLITS, WITH_JUDGE, WITH_STATE
from driftline.drift.benchmark.resampling import Resamples, estimate, weighted_auroc, weighted_mean
from driftline.drift.benchmark.trial import AGES, Trial
from driftline.drift.restart import FloatArray

DECIDES_AT = 20
"""W of the gain that says whether the judge helps."""


@dataclass(frozen=True)
class Contrast:
    """Rows that should score high and rows that should score low, with the weights of every resample."""

    high: pd.DataFrame
    low: pd.DataFrame
    weights_RP: FloatArray
    weights_RQ: FloatArray

    @classmethod
    def of(cls, high: pd.DataFrame, low: pd.DataFrame, resamples: Resamples) -> "Contrast":
        """A stream counts as often as the users in it were drawn."""
        return cls(high, low, *(resamples.weights(_users(rows)) for rows in (high, low)))

    def auroc(self, column: str) -> FloatArray:
        """One per resample."""
        values = (rows[column].to_numpy(dtype=np.float64) for rows in (self.high, self.low))
        return weighted_auroc(self.weights_RP, self.weights_RQ, *values)


def judge_figures(judged: Sequence[Trial]) -> dict[str, Any]:
    """Over all seeds of one track."""
    users = {str(user) for one in judged for column in ("user", "other") for user in one.rows[column].dropna()}
    resamples = Resamples(sorted(users), RESAMPLES)
    streams = [Contrast.of(one.rows[one.rows["label"]], one.rows[~one.rows["label"]], resamples) for one in judged]
    gains = {
        name: {str(age): _over(streams, _gain, f"{name} {age}", f"{CLASSIFIER} {age}") for age in AGES}
        for name in (WITH_JUDGE, WITH_STATE)
    }
    return {
        "pair_auroc": {
            name: {str(age): _over(streams, Contrast.auroc, f"{name} {age}") for age in AGES} for name in SPLITS
        },
        "gain": gains,
        "helps": bool(gains[WITH_JUDGE][str(DECIDES_AT)].low > 0),
        "alarms": _alarm_figures(judged, resamples),
        "keep_above": judged[0].summary["keep_above"],
        "seconds_per_alarm": float(np.mean([one.summary["seconds_per_alarm"] for one in judged])),
        "tokens_per_alarm": float(np.mean([one.summary["tokens_per_alarm"] for one in judged])),
    }


def in_words(figures: Mapping[str, Any]) -> list[str]:
    """What somebody has to know who wonders whether to switch the judge on."""
    alarms, gain = figures["alarms"], figures["gain"][WITH_JUDGE][str(DECIDES_AT)]
    verdict = "it knows what the classifier does not" if figures["helps"] else "no proven gain: train without it"
    return [
        f"The judge changes the classifier's pair AUROC at W={DECIDES_AT} by {gain.mean:+.4f} "
        f"[{gain.low:+.4f}, {gain.high:+.4f}]; {verdict}.",
        f"An alarm costs {figures['seconds_per_alarm']:.2f} s and {figures['tokens_per_alarm']:.0f} tokens.",
        f"Of {alarms['true']} true and {alarms['false']} false alarms at ARL 200 it keeps {alarms['true_kept']} of the "
        f"true and overrules {alarms['false_overruled']} of the false; AUROC true against false "
        f"{alarms['auroc_judge']} (the classifier's own figure: {alarms['auroc_classifier']}).",
    ]


def _alarm_figures(judged: Sequence[Trial], resamples: Resamples) -> dict[str, Any]:
    """True alarms (at or after the change) against false ones. An alarm without an opinion is kept."""
    alarms = []
    for one in judged:
        rows = one.rows[one.rows["alarm"] >= 0].copy()
        p_changed = expit(rows["alarm judge"].to_numpy(dtype=np.float64))
        rows["kept"] = np.isnan(p_changed) | (p_changed >= one.summary["keep_above"])
        rows["alarm judge"] = rows["alarm judge"].fillna(np.inf)
        is_true = rows["label"] & (rows["alarm"] >= rows["k"])
        alarms.append(Contrast.of(rows[is_true], rows[~is_true], resamples))
    return {
        "true": sum(len(contrast.high) for contrast in alarms),
        "false": sum(len(contrast.low) for contrast in alarms),
        "auroc_judge": _over(alarms, Contrast.auroc, "alarm judge"),
        "auroc_classifier": _over(alarms, Contrast.auroc, "alarm classifier"),
        "true_kept": _over(alarms, lambda c: weighted_mean(c.weights_RP, c.high["kept"].to_numpy(np.float64))),
        "false_overruled": _over(alarms, lambda c: weighted_mean(c.weights_RQ, 1 - c.low["kept"].to_numpy(np.float64))),
    }


def _users(rows: pd.DataFrame) -> list[list[str]]:
    columns = zip(rows["user"], rows["other"], rows["label"], strict=True)
    return [[user, other] if drifted else [user] for user, other, drifted in columns]


def _gain(contrast: Contrast, with_judge: str, without: str) -> FloatArray:
    return contrast.auroc(with_judge) - contrast.auroc(without)


def _over(contrasts: Sequence[Contrast], figure: Callable[..., FloatArray], *arguments: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate([figure(contrast, *arguments) for contrast in contrasts])
