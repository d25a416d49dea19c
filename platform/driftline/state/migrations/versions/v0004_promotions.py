"""Which bundles are in force, as a log; and how the history of a list was read, so that the list can be explained."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "promotions",
        sa.Column("seq", _sequence, primary_key=True, autoincrement=True),
        sa.Column("configured", sa.Text, nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("arms", sa.Text, nullable=False),
        sa.Column("previous", sa.BigInteger),
        sa.Column("promoted_at", sa.Float(53), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
    )
    op.add_column("served", sa.Column("reading", sa.Text))
