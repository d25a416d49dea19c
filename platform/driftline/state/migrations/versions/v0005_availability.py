"""Items can be out of stock."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("items", sa.Column("available", sa.Boolean, nullable=False, server_default=sa.true()))
