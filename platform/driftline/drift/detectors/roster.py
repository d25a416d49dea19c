"""All statistics that the benchmark compares."""

from driftline.config import DriftConfig
from driftline.drift.calibration import LogOdds
from driftline.drift.detectors.adwin import Adwin
from driftline.drift.detectors.contract import WARM_UP_EVENTS, Statistic
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

PAGE_HINKLEY = ((0.005, 30), (0.005, WARM_UP_EVENTS), (0.1, WARM_UP_EVENTS))
"""Magnitude and first event with an alarm: river's defaults, and two that suit short streams better."""


def river_statistics() -> list[Statistic]:
    """river's detectors on both signals; they need the package river (``pip install 'driftline[benchmark]'``)."""
    tests: list[Statistic] = []
    for signal, falls in (("lift", True), ("surprise", False)):
        tests += [Adwin(signal), Kswin(signal)]
        tests += [PageHinkley(signal, falls, *options) for options in PAGE_HINKLEY]
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
