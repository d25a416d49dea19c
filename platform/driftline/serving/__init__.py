"""The HTTP service on Ray Serve. No mathematics lives here: models, drift and policy are in the layers beneath.

Reading order: ``messages`` (what goes over HTTP), ``calls`` (what goes between deployments), ``problems`` (errors),
``auth`` (keys and scopes), ``ingestion`` (event bodies), ``routes`` and ``envelope`` (the HTTP application),
``router``, ``user_state`` with ``assessments`` and ``served_lists``, ``ranker`` with ``catalogue``, ``drift_detector``
(the deployments), ``app`` (how they are put together), ``keys_cli`` (``driftline keys``).
"""
