"""How a database of the event store came to its schema, one file per step (alembic).

``driftline.state.database`` runs what is missing whenever a database is opened. A new step is a file in ``versions``
whose ``down_revision`` is the last one; ``tests/serving/test_migrations.py`` compares the outcome with
``driftline.state.tables``.
"""
