"""The tables as they were before migrations; a database that has them already is taken over as it is."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("schema_info"):
        op.drop_table("schema_info")
        return
    op.create_table(
        "versions",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("catalogue_version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("seq", _Sequence, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("event_id", sa.String(256), nullable=False),
        sa.Column("user_id", sa.String(256), nullable=False),
        sa.Column("item_id", sa.String(256), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("timestamp", sa.Float(53), nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("text", sa.Text),
        sa.Column("request_id", sa.String(128)),
        sa.UniqueConstraint("tenant", "event_id", name="one_event_per_id"),
        sa.Index("events_of_user", "tenant", "user_id", "timestamp", "seq"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "users",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(256), primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "drift_states",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(256), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("bundle", sa.String(256), nullable=False),
        sa.Column("change_event_id", sa.String(256)),
        sa.Column("report", sa.Text, nullable=False),
    )
    op.create_table(
        "items",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("item_id", sa.String(256), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("year", sa.String(16), nullable=False),
        sa.Column("categories", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Index("items_by_version", "tenant", "version"),
    )
    op.create_table(
        "served",
        sa.Column("seq", _Sequence, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(256), nullable=False),
        sa.Column("items", sa.Text, nullable=False),
        sa.Column("policy", sa.String(32), nullable=False),
        sa.Column("bundle", sa.String(256), nullable=False),
        sa.Column("served_at", sa.Float(53), nullable=False),
        sa.Index("served_to_user", "tenant", "user_id"),
        sa.Index("served_by_request", "tenant", "request_id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("revoked_at", sa.Float(53)),
    )
