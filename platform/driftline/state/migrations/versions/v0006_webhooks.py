"""Where a tenant wants to be told of changes, and what is still to be told."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
    )
    op.create_table(
        "webhook_outbox",
        sa.Column("seq", _Sequence, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(256)),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Float(53), nullable=False),
        sa.Column("fault", sa.Text),
        sa.UniqueConstraint("event_id", name="one_message_per_id"),
        sa.Index("outbox_by_time", "next_at"),
        sa.Index("outbox_of_user", "tenant", "user_id"),
        sqlite_autoincrement=True,
    )
