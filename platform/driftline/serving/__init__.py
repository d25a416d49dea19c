"""The HTTP service on Ray Serve. No mathematics lives here: models, drift and policy are in the layers beneath.

Reading order: ``calls`` (what goes between deployments), ``http`` (the Router and everything else that speaks HTTP:
messages, routes, problems, the envelope around every request), ``user_state`` with ``assessments``, ``served_lists``,
``notices`` and ``webhooks``, ``ranker`` with ``catalogue``, ``rank_request``, ``lookups`` and ``explanations``,
``drift_detector`` (the deployments), ``arms``, ``promotions`` and ``loaded_arms`` (which bundles are in force), ``app``
(how they are put together), ``ingress`` (what stands in front), ``commands`` (``driftline serve``, ``keys``, …).
"""
