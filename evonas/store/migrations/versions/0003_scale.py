"""Evaluations counted by each run's driver, queries that stay fast at a million births, the Pareto front."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PARTS = {
    "score": "proxy, objective, value",
    "point": "proxy, repeat, step, accuracy, loss",
    "measurement": "position, gate, proxy, value, threshold, step, passed, seconds",
}
EVALUATION = (
    "run, id, layer, birth, name, purpose, seed, attempts, epoch, seq, verdict, gate, proxy, value, threshold, step, "
    "message, advantage, host, conditions, seconds, memory_mb, at"
)


def upgrade() -> None:
    op.drop_index("candidate_by_fingerprint", "candidate")
    with op.batch_alter_table("run") as run:
        run.alter_column("seed", type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
        run.add_column(sa.Column("writes", sa.Integer(), nullable=False, server_default="0"))
    for index in ("evaluation_by_birth", "evaluation_by_purpose"):
        op.drop_index(index, "evaluation")
    op.drop_index("candidate_op_by_op", "candidate_op")
    for table in ("evaluation", "candidate_op", *PARTS):
        op.rename_table(table, f"{table}_of_0002")
    _create()
    op.execute(f"INSERT INTO evaluation ({EVALUATION}) SELECT {EVALUATION} FROM evaluation_of_0002")
    for table, columns in PARTS.items():
        op.execute(
            f"INSERT INTO {table} (run, evaluation, {columns}) "
            f"SELECT e.run, p.evaluation, {', '.join(f'p.{c}' for c in columns.split(', '))} "
            f"FROM {table}_of_0002 p JOIN evaluation_of_0002 e ON e.id = p.evaluation"
        )
    op.execute(
        "INSERT INTO candidate_op (run, op, birth, advantage) SELECT o.run, o.op, o.birth, "
        "CASE WHEN c.equal_to IS NULL THEN e.advantage END FROM candidate_op_of_0002 o "
        "JOIN candidate c ON c.run = o.run AND c.birth = o.birth "
        "JOIN evaluation e ON e.run = o.run AND e.birth = o.birth AND e.purpose = 'search'"
    )
    for table in (*PARTS, "candidate_op", "evaluation"):
        op.drop_table(f"{table}_of_0002")
    _translate_configs(op.get_bind())
    _fill_front(op.get_bind())


def _translate_configs(connection: sa.Connection) -> None:
    """Before schema 0002 `gpus: 0` meant what `device: cpu` says since."""
    for run, text in connection.execute(sa.text("SELECT id, config FROM run")).all():
        config = json.loads(text)
        workers = config.get("workers", {})
        if workers.get("gpus") == 0:
            workers |= {"gpus": 1.0, "device": "cpu"}
            values = {"config": json.dumps(config), "run": run}
            connection.execute(sa.text("UPDATE run SET config = :config WHERE id = :run"), values)


def _create() -> None:
    op.create_table(
        "evaluation",
        sa.Column("run", sa.Integer(), sa.ForeignKey("run.id"), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("birth", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("gate", sa.String(), nullable=True),
        sa.Column("proxy", sa.String(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("threshold", sa.Float(), nullable=True),
        sa.Column("step", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("advantage", sa.Float(), nullable=True),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("conditions", sa.String(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("memory_mb", sa.Float(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run", "birth"], ["candidate.run", "candidate.birth"]),
        sa.PrimaryKeyConstraint("run", "id"),
        sa.UniqueConstraint("run", "seq"),
    )
    op.create_index("evaluation_by_birth", "evaluation", ["run", "birth", "purpose"])
    op.create_index("evaluation_by_purpose", "evaluation", ["run", "purpose", "advantage"])
    op.create_table(
        "candidate_op",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("op", sa.String(), nullable=False),
        sa.Column("birth", sa.Integer(), nullable=False),
        sa.Column("advantage", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run", "birth"], ["candidate.run", "candidate.birth"]),
        sa.PrimaryKeyConstraint("run", "op", "birth"),
        sqlite_with_rowid=False,
    )
    present = sa.text("advantage IS NOT NULL")
    op.create_index(
        "candidate_op_by_advantage",
        "candidate_op",
        ["run", "op", "advantage"],
        sqlite_where=present,
        postgresql_where=present,
    )
    op.create_table(
        "front",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("birth", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run", "birth"], ["candidate.run", "candidate.birth"]),
        sa.PrimaryKeyConstraint("run", "birth"),
        sqlite_with_rowid=False,
    )
    keys = {
        "score": (
            sa.Column("proxy", sa.String(), primary_key=True),
            sa.Column("objective", sa.String(), primary_key=True),
            sa.Column("value", sa.Float(), nullable=False),
        ),
        "point": (
            sa.Column("proxy", sa.String(), primary_key=True),
            sa.Column("repeat", sa.Integer(), primary_key=True, server_default="0"),
            sa.Column("step", sa.Integer(), primary_key=True),
            sa.Column("accuracy", sa.Float(), nullable=False),
            sa.Column("loss", sa.Float(), nullable=False),
        ),
        "measurement": (
            sa.Column("position", sa.Integer(), primary_key=True),
            sa.Column("gate", sa.String(), nullable=False),
            sa.Column("proxy", sa.String(), nullable=False),
            sa.Column("value", sa.Float(), nullable=False),
            sa.Column("threshold", sa.Float(), nullable=False),
            sa.Column("step", sa.Integer(), nullable=False),
            sa.Column("passed", sa.Boolean(), nullable=False),
            sa.Column("seconds", sa.Float(), nullable=False),
        ),
    }
    for table, columns in keys.items():
        op.create_table(
            table,
            sa.Column("run", sa.Integer(), primary_key=True),
            sa.Column("evaluation", sa.Integer(), primary_key=True),
            *columns,
            sa.ForeignKeyConstraint(["run", "evaluation"], ["evaluation.run", "evaluation.id"]),
            sqlite_with_rowid=False,
        )
    op.create_index("score_by_value", "score", ["run", "objective", "proxy", "value"])


def _fill_front(connection: sa.Connection) -> None:
    """The survivors that no other one dominates in the objectives of their run's config."""
    scores = sa.text(
        "SELECT e.birth, c.live_nodes, s.objective, s.proxy, s.value FROM score s "
        "JOIN evaluation e ON e.run = s.run AND e.id = s.evaluation AND e.purpose = 'search' "
        "JOIN candidate c ON c.run = e.run AND c.birth = e.birth AND c.equal_to IS NULL WHERE s.run = :run"
    )
    of_cost = {"step_seconds": "step_time", "saved_mb": "memory"}
    for run, config in connection.execute(sa.text("SELECT id, config FROM run")).all():
        objectives = json.loads(config).get("objectives", ["accuracy"])
        scores_of: dict[int, dict[str, float]] = {}
        for birth, nodes, objective, proxy, value in connection.execute(scores, {"run": run}):
            mine = scores_of.setdefault(birth, {"nodes": -float(nodes)} if "nodes" in objectives else {})
            if objective == "accuracy":
                mine[f"accuracy {proxy}"] = value
            elif of_cost.get(objective) in objectives:
                mine[objective] = mine.get(objective, 0.0) - value
        for birth, mine in scores_of.items():
            others = (o for o in scores_of.values() if o != mine and o.keys() == mine.keys())
            if not any(all(o[key] >= mine[key] for key in mine) for o in others):
                insert = sa.text("INSERT INTO front (run, birth) VALUES (:run, :birth)")
                connection.execute(insert, {"run": run, "birth": birth})
