"""All statistics that the benchmark compares."""

from driftline.config import DriftConfig
from driftline.drift.calibration import LogOdds
from driftline.drift.detectors.adwin import Adwin
from driftline.drift.detectors.contract import Statistic
from driftline.drift.detectors.cosine import Cosine
from driftline.drift.detectors.fused import Fused
from driftline.drift.detectors.genre_chi_square import GenreChiSquare
from driftline.drift.detectors.genre_jensen_shannon import GenreJensenShannon
from driftline.drift.detectors.genre_run_length import GenreRunLength
from driftline.drift.detectors.kswin import Kswin
from driftline.drift.detectors.mmd import Mmd
from driftline.drift.detectors.online_mmd import OnlineMmd
from driftline.drift.detectors.page_hinkley import PageHinkley
from driftline.drift.detectors.restart_cusum import RestartCusum
from driftline.drift.detectors.restart_posterior import RestartPosterior
from driftline.drift.detectors.shiryaev_roberts import ShiryaevRoberts
from driftline.drift.detectors.signal_cusum import oracle_cusum, popularity_cusum

PAGE_HINKLEY_DELTAS = (0.005, 0.1, 0.3)
"""Magnitudes that the benchmark tries: river's default, and two of the order of a change in nats."""


def river_statistics() -> list[Statistic]:
    """river's detectors on both signals; they need the package river (``pip install 'driftline[benchmark]'``)."""
    tests: list[Statistic] = []
    for signal, falls in (("lift", True), ("surprise", False)):
        tests += [Adwin(signal), Kswin(signal)]
        tests += [PageHinkley(signal, falls, delta) for delta in PAGE_HINKLEY_DELTAS]
    return tests


def own_statistics(config: DriftConfig) -> list[Statistic]:
    """Everything that needs neither river nor a calibration."""
    return [
        ShiryaevRoberts(),
        RestartCusum(),
        RestartPosterior(config.hazard, config.recent_events),
        Mmd(config.recent_events),
        OnlineMmd(),
        Cosine(),
        GenreChiSquare(),
        GenreJensenShannon(),
        GenreRunLength(config.hazard),
        popularity_cusum(),
        oracle_cusum(),
    ]


def all_statistics(config: DriftConfig, classifier: LogOdds) -> list[Statistic]:
    """The classifier first, then what it is compared with."""
    return [Fused(classifier, config), *own_statistics(config), *river_statistics()]
