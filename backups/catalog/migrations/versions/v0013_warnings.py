"""What a backup's manifest warns of, in the catalog too."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Of those that are listed already it is not known; `catalog rebuild` reads it."""
    op.add_column("backups", sa.Column("warnings", sa.JSON(none_as_null=True)))
