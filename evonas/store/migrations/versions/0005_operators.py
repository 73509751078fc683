"""Edits: the second parent of a candidate, and what the surrogate said of it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NOT_NULL = sa.text("second_parent IS NOT NULL")


def upgrade() -> None:
    op.add_column("candidate", sa.Column("second_parent", sa.Integer(), nullable=True))
    op.add_column("candidate", sa.Column("pool", sa.Integer(), nullable=True))
    op.add_column("candidate", sa.Column("predicted", sa.Float(), nullable=True))
    op.create_index(
        "candidate_by_second_parent",
        "candidate",
        ["run", "second_parent"],
        sqlite_where=NOT_NULL,
        postgresql_where=NOT_NULL,
    )
