"""What the LLM judge adds: on given change points, and on the classifier's alarms at ARL 200.

The judge's opinion and a score of its hidden state are each tried as one more feature of the pair classifier. All
classifiers that are compared are fitted on the same streams of calibration users.

Shape legend: P streams, H hidden width, F pair statistics.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from driftline.drift.benchmark.bars import FUSED
from driftline.drift.benchmark.splits import SplitClassifier, split_statistics
from driftline.drift.benchmark.trial import AGES, RUN_LENGTHS, Trial
from driftline.drift.benchmark.world import World
from driftline.drift.calibration import with_reach
from driftline.drift.detectors.contract import WARM_UP_EVENTS
from driftline.drift.judge.judge import Case, Judge
from driftline.drift.reading import Reader
from driftline.drift.restart import FloatArray
from driftline.drift.streams import Recipe, Stream, draw_streams
from driftline.models.recommender import Recommender

FIT_PAIRS = 100
"""Of calibration users: the judge costs seconds a stream."""
CLASSIFIER, JUDGE, STATE = "classifier", "judge", "hidden state"
WITH_JUDGE, WITH_STATE = "classifier + judge", "classifier + hidden state"
SPLITS = (CLASSIFIER, JUDGE, STATE, WITH_JUDGE, WITH_STATE)
STATE_COMPONENTS = 16
FOLDS = 5


@dataclass(frozen=True)
class Views:
    """Streams at one W: the pair statistics, and what the judge makes of them."""

    statistics_PF: FloatArray
    log_odds_P: FloatArray
    states_PH: NDArray[np.float32]

    @classmethod
    def of(cls, pairs: Sequence[tuple[Stream, int]], age: int, reader: Reader, judge: Judge) -> "Views":
        """``pairs``: from :func:`~driftline.drift.calibration.with_reach`."""
        cut = [(stream.items[: stream.change_point + min(age, reach)], stream.change_point) for stream, reach in pairs]
        opinions = judge.opinions(cut)
        return cls(
            np.stack([split_statistics(reader.read(items), k, age) for items, k in cut]),
            np.array([opinion.log_odds for opinion in opinions]),
            np.stack([opinion.state_H for opinion in opinions]),
        )


def judge_trial(
    world: World,
    model: Recommender,
    judge: Judge,
    trial: Trial,
    fit_pairs: int = FIT_PAIRS,
) -> Trial:
    """Fit on calibration users, judge the streams of test users.

    Parameters
    ----------
    world, model
        The data, and the encoder of the trial's seed.
    judge
        Trained on the world's training users.
    trial
        Finished: its sudden streams are judged, its classifier's alarms adjudicated.

    Returns
    -------
    Trial
        One row per stream: its labels; ``{split} {age}``, the log odds of every split of ``SPLITS`` at each W; of the
        first alarm ``alarm`` (index of its event, -1 = none), ``alarm classifier`` and ``alarm judge`` (log odds; nan
        without an opinion).
    """
    track, seed = trial.summary["track"], trial.summary["seed"]
    reader = world.reader(model)
    fit = with_reach(draw_streams(world.histories["calibration"], world.taste, Recipe(track), fit_pairs, seed + 1000))
    rows = trial.rows[trial.rows["kind"] == "sudden"]
    test = [(_stream(row), int(row["reach"])) for _, row in rows.iterrows()]
    columns = ["stream_id", "user", "other", "severity", "seed", "label", "k", "reach"]
    found = rows[columns].reset_index(drop=True)
    for age in AGES:
        own, theirs = (Views.of(pairs, age, reader, judge) for pairs in (fit, test))
        for name, log_odds_P in _splits(own, theirs, [stream for stream, _ in fit]).items():
            found[f"{name} {age}"] = log_odds_P
    alarms, cost = _alarms(rows, trial.summary["thresholds"][FUSED][str(RUN_LENGTHS[0])], judge)
    return Trial(
        pd.concat([found, alarms], axis=1),
        {"track": track, "seed": seed, "keep_above": judge.options.keep_above, **cost},
    )


def _stream(row: pd.Series) -> Stream:
    items = np.asarray(row["items"], dtype=np.int64)
    other = row["other"] if row["label"] else None
    return Stream(row["stream_id"], items, row["user"], other, int(row["k"]), None, row["track"], int(row["seed"]))


def _splits(own: Views, theirs: Views, fit: Sequence[Stream]) -> dict[str, FloatArray]:
    """Log odds of every split: fitted on calibration streams, applied to test streams."""
    labels = np.array([stream.drifted for stream in fit])
    head = state_classifier()
    # the head has more weights than there are streams: what it says of those it was fitted on would be trusted too much
    folds = GroupKFold(FOLDS).split(own.states_PH, groups=[stream.user for stream in fit])
    own_state_P = cross_val_predict(head, own.states_PH, labels, cv=list(folds), method="decision_function")
    their_state_P = head.fit(own.states_PH, labels).decision_function(theirs.states_PH)

    def fused(own_extra: Sequence[FloatArray], their_extra: Sequence[FloatArray]) -> FloatArray:
        classify = SplitClassifier(np.column_stack([own.statistics_PF, *own_extra]), labels)
        return np.array([classify(row_F) for row_F in np.column_stack([theirs.statistics_PF, *their_extra])])

    return {
        CLASSIFIER: fused([], []),
        JUDGE: theirs.log_odds_P,
        STATE: their_state_P,
        WITH_JUDGE: fused([own.log_odds_P], [theirs.log_odds_P]),
        WITH_STATE: fused([own_state_P], [their_state_P]),
    }


def state_classifier() -> Pipeline:
    """Principal components of the hidden state and a logistic regression on them."""
    return make_pipeline(StandardScaler(), PCA(STATE_COMPONENTS, random_state=0), LogisticRegression(C=0.1))


def _alarms(rows: pd.DataFrame, threshold: float, judge: Judge) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The first alarm of every stream before the judge, one at a time; and what an alarm costs."""
    at, classifier, judged, seconds, tokens = [], [], [], [], []
    for _, row in rows.iterrows():
        series = np.asarray(row[FUSED])
        crossed = np.flatnonzero(series[WARM_UP_EVENTS:] >= threshold) + WARM_UP_EVENTS
        event = int(crossed[0]) if len(crossed) else -1
        onset = int(row["change_point"][event]) if event >= 0 else -1
        at.append(event)
        classifier.append(float(series[event]) if event >= 0 else np.nan)
        judged.append(np.nan)
        if onset > 0:
            case: Case = (np.asarray(row["items"][: event + 1], dtype=np.int64), onset)
            began = time.perf_counter()
            (opinion,) = judge.opinions([case])
            seconds.append(time.perf_counter() - began)
            tokens.append(opinion.tokens)
            judged[-1] = opinion.log_odds
    columns = {"alarm": at, "alarm classifier": classifier, "alarm judge": judged}
    cost = {"alarms": len(seconds), "seconds_per_alarm": _mean(seconds), "tokens_per_alarm": _mean(tokens)}
    return pd.DataFrame(columns), cost


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
