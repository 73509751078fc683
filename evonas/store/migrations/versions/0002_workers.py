"""Attempts and conditions of an evaluation; curves of several seeds."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evaluation", sa.Column("attempts", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("evaluation", sa.Column("conditions", sa.String(), nullable=True))
    op.rename_table("point", "point_of_0001")  # a primary key cannot be altered everywhere
    op.create_table(
        "point",
        sa.Column("evaluation", sa.Integer(), nullable=False),
        sa.Column("proxy", sa.String(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation"], ["evaluation.id"]),
        sa.PrimaryKeyConstraint("evaluation", "proxy", "repeat", "step"),
    )
    op.execute(
        "INSERT INTO point (evaluation, proxy, repeat, step, accuracy, loss) "
        "SELECT evaluation, proxy, 0, step, accuracy, loss FROM point_of_0001"
    )
    op.drop_table("point_of_0001")
