"""Keys expire and have a rate limit; an audit log, and the key of the hashes in it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("expires_at", sa.Float(53)))
    op.add_column("api_keys", sa.Column("rate", sa.Float(53)))
    op.add_column("api_keys", sa.Column("burst", sa.Integer))
    op.create_table(
        "audit",
        sa.Column("seq", _Sequence, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(32), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Index("audit_of_tenant", "tenant", "seq"),
    )
    op.create_table(
        "audit_secret",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("secret", sa.String(64), nullable=False),
    )
