"""Bayesian online change-point detection on genres.

Shape legend: T events of a stream, K run lengths, G genres.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from driftline.drift.detectors.contract import State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class GenreRunLength:
    """Log odds that the run is not as old as the stream (Adams & MacKay 2007) under a Dirichlet-multinomial.

    Each event counts once, shared among its genres. Run lengths beyond ``longest`` are forgotten.
    """

    hazard: float = 0.01
    concentration: float = 0.5
    """Of the symmetric Dirichlet prior, per genre (Jeffreys)."""
    longest: int = 120
    name: str = "genre run length"
    version: int = 1

    def start(self) -> State:
        """Log joint probability of each possible beginning of the run, oldest first, and its genre counts."""
        return {"log_joint_K": np.zeros(0), "counts_KG": np.zeros((0, 0))}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        genres_G = event.genres_KG[-1]
        log_joint_K, counts_KG = state["log_joint_K"], state["counts_KG"].reshape(-1, len(genres_G))
        if len(log_joint_K):
            begun = logsumexp(log_joint_K) + np.log(self.hazard)
            log_joint_K = np.append(log_joint_K + np.log1p(-self.hazard), begun)
        else:
            log_joint_K = np.zeros(1)
        counts_KG = np.concatenate([counts_KG, np.zeros((1, len(genres_G)))])
        share_G = genres_G / max(genres_G.sum(), 1)
        prior = self.concentration * len(genres_G)
        predictive_KG = np.log((counts_KG + self.concentration) / (counts_KG.sum(axis=1, keepdims=True) + prior))
        log_joint_K = log_joint_K + predictive_KG @ share_G
        log_joint_K -= logsumexp(log_joint_K)  # only odds matter
        counts_KG = counts_KG + share_G
        later = logsumexp(log_joint_K[1:]) if len(log_joint_K) > 1 else -np.inf
        onset = int(log_joint_K[1:].argmax()) + 1 if len(log_joint_K) > 1 else None
        kept = {"log_joint_K": log_joint_K[-self.longest :], "counts_KG": counts_KG[-self.longest :]}
        return Step(kept, float(later - log_joint_K[0]), onset)

    def series(self, reading: Reading) -> FloatArray:
        """After every event; ``-inf`` after the first."""
        state, values = self.start(), []
        for event in reading.events():
            state, value, _ = self.step(state, event)
            values.append(value)
        return np.array(values)
