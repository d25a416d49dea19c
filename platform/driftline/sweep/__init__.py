"""Hyper-parameter sweeps with Ray Tune: from a sweep file to a report, the best configuration and its bundle.

Reading order: :mod:`space` (which values), :mod:`spec` (the sweep file), :mod:`capacity` (what fits the cluster),
:mod:`trial` (one configuration, trained), :mod:`search` (who chooses and who stops), :mod:`study` (the whole sweep),
:mod:`report`.
"""
