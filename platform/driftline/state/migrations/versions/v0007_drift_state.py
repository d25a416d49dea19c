"""What the next event of a user is scored from."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("drift_states", sa.Column("state", sa.LargeBinary))
