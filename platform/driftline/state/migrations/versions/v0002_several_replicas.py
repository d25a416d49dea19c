"""What several replicas share through the database, a user's number of events, and more about a served list.

Events from before have version 0: they were always there, as far as anybody can tell.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("versions", sa.Column("erased_version", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("events", sa.Column("version", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("users", sa.Column("num_events", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("users", sa.Column("claimed_until", sa.Float(53), nullable=False, server_default="0"))
    op.execute(
        "UPDATE users SET num_events = (SELECT count(*) FROM events"
        " WHERE events.tenant = users.tenant AND events.user_id = users.user_id)"
    )
    op.add_column("served", sa.Column("version", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("served", sa.Column("arm", sa.Text, nullable=False, server_default="champion"))
    op.add_column("served", sa.Column("scores", sa.Text))
    op.add_column("served", sa.Column("shadow", sa.Text))
