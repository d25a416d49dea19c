"""Which reading of a history makes the list, given what drift detection says. Nothing is ever discarded in silence."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.config import PolicyConfig
from driftline.drift.report import DriftVerdict
from driftline.ranking.requests import Policy

COLD_START_EVENTS = 3


def decide(config: PolicyConfig, known_events: int, report: DriftVerdict | None) -> Policy:
    """Choose the policy of one request.

    Parameters
    ----------
    known_events
        Events of the history whose item is in the catalogue.
    report
        None where drift detection is off.
    """
    if known_events <= COLD_START_EVENTS:
        return Policy("cold-start", f"{known_events} known events: text and popularity carry the list", 0.0)
    if report is None:
        return Policy("steady", "drift detection is off: the whole history is read", 0.0)
    p_drift, change = report.p_drift, report.change_point
    if p_drift < config.drifting_above:
        return Policy("steady", f"P(drift) {p_drift:.2f} < {config.drifting_above}: the whole history is read", 0.0)
    if change is None:
        return Policy("steady", f"P(drift) {p_drift:.2f}, but no change point: the whole history is read", 0.0)
    if not report.alarm:
        return Policy("steady", f"P(drift) {p_drift:.2f}, but no alarm: the whole history is read", 0.0)
    if p_drift >= config.reset_above:
        reason = f"P(drift) {p_drift:.2f} >= {config.reset_above}: only events from number {change + 1} on are read"
        return Policy("reset", reason, 1.0)
    reason = (
        f"P(drift) {p_drift:.2f}: events from number {change + 1} on count {p_drift:.0%}, "
        f"the whole history {1 - p_drift:.0%}"
    )
    return Policy("drifting", reason, p_drift)


def mixture(whole_N: NDArray[np.float32], recent_N: NDArray[np.float32], weight_recent: float) -> NDArray[np.float32]:
    """Log of ``(1 - w) p_whole + w p_recent``; the same items are impossible in both."""
    if weight_recent >= 1.0:
        return recent_N
    whole, recent = torch.from_numpy(whole_N), torch.from_numpy(recent_N)  # NumPy's logaddexp takes ten times as long
    mixed_N = torch.logaddexp(whole + math.log1p(-weight_recent), recent + math.log(weight_recent))
    return np.asarray(mixed_N.numpy(), dtype=np.float32)
