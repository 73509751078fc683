"""The schema. Migrations in `migrations/versions` build it; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()
VERSION_TABLE = "evonas_version"  # Alembic's, under a name that no other tool's table has

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("config", Text, nullable=False),  # the resolved config, JSON
    Column("seed", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),  # rises whenever a driver takes the run over
    Column("writes", Integer, nullable=False, server_default="0"),  # transactions of drivers
    Column("versions", Text, nullable=False),  # of evonas, the language, torch ..., and the folder; JSON
    Column("created", Float, nullable=False),  # Unix seconds
    Column("finished", Float),
)

candidate = Table(
    "candidate",
    metadata,
    Column("run", ForeignKey("run.id"), primary_key=True),
    Column("birth", Integer, primary_key=True),
    Column("graph", Text, nullable=False),  # the genotype; the truth
    Column("formula", Text, nullable=False),  # the live canonical expression
    Column("digest", String, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("family", String, nullable=False),
    Column("parent", Integer),  # birth
    Column("operator", String, nullable=False),  # one of Operator
    Column("equal_to", Integer),  # birth of the candidate whose outcome it inherits
    Column("seen", Integer, nullable=False),  # outcomes recorded when it was proposed
    Column("batch_dependent", Boolean, nullable=False),
    Column("live_nodes", Integer, nullable=False),
    Column("state", String, nullable=False),  # one of State
    Column("amplification", Float),  # of input of one position; NULL where it was not measured
    Column("amplification_constant", Float),
    Column("amplification_sample", Float),
    Index("candidate_by_state", "run", "state"),
    Index("candidate_by_parent", "run", "parent"),
)

candidate_op = Table(  # of the candidates that have an outcome
    "candidate_op",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("op", String, primary_key=True),  # of a live node
    Column("birth", Integer, primary_key=True),
    Column("advantage", Float),  # the outcome's; NULL where it was inherited too: each function is found once
    ForeignKeyConstraint(["run", "birth"], ["candidate.run", "candidate.birth"]),
    Index(
        "candidate_op_by_advantage",
        "run",
        "op",
        "advantage",
        sqlite_where=text("advantage IS NOT NULL"),
        postgresql_where=text("advantage IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

front = Table(  # the survivors that no other one dominates, without those that inherit; kept up to date by the driver
    "front",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("birth", Integer, primary_key=True),
    ForeignKeyConstraint(["run", "birth"], ["candidate.run", "candidate.birth"]),
    sqlite_with_rowid=False,
)

evaluation = Table(
    "evaluation",
    metadata,
    Column("run", ForeignKey("run.id"), primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),  # counted by the run's driver; below zero: superseded
    Column("layer", Text, nullable=False),  # formula
    Column("birth", Integer),  # NULL for a layer that is no candidate
    Column("name", String),  # of a layer that is no candidate: the catalog's, or its formula
    Column("purpose", String, nullable=False),  # one of Purpose
    Column("seed", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="1"),  # the row is that of the last one
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer),  # order of the search's outcomes
    Column("verdict", String, nullable=False),  # one of Verdict
    Column("gate", String),  # of a rejection; the kind of a crash
    Column("proxy", String),  # where it was rejected
    Column("value", Float),  # what the gate measured
    Column("threshold", Float),
    Column("step", Integer),
    Column("message", Text),  # of a crash
    Column("advantage", Float),  # of a fitness: mean over proxies of accuracy minus BN-ReLU's, same purpose and seed
    Column("host", String, nullable=False),
    Column("conditions", String),  # device, processor, threads, torch; NULL before schema 0002
    Column("seconds", Float, nullable=False),
    Column("memory_mb", Float, nullable=False),
    Column("at", Float, nullable=False),  # Unix seconds
    ForeignKeyConstraint(["run", "birth"], ["candidate.run", "candidate.birth"]),
    UniqueConstraint("run", "seq"),
    Index("evaluation_by_birth", "run", "birth", "purpose"),
    Index("evaluation_by_purpose", "run", "purpose", "advantage"),
)

_OF_EVALUATION = ["evaluation.run", "evaluation.id"]

score = Table(
    "score",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("evaluation", Integer, primary_key=True),
    Column("proxy", String, primary_key=True),
    Column("objective", String, primary_key=True),  # a field of Fitness
    Column("value", Float, nullable=False),
    ForeignKeyConstraint(["run", "evaluation"], _OF_EVALUATION),
    Index("score_by_value", "run", "objective", "proxy", "value"),
    sqlite_with_rowid=False,
)

point = Table(
    "point",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("evaluation", Integer, primary_key=True),
    Column("proxy", String, primary_key=True),
    Column("repeat", Integer, primary_key=True, server_default="0"),  # with the n-th of the recipe's seeds
    Column("step", Integer, primary_key=True),
    Column("accuracy", Float, nullable=False),
    Column("loss", Float, nullable=False),
    ForeignKeyConstraint(["run", "evaluation"], _OF_EVALUATION),
    sqlite_with_rowid=False,
)

measurement = Table(
    "measurement",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("evaluation", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("gate", String, nullable=False),
    Column("proxy", String, nullable=False),  # "" for gates that need none
    Column("value", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("step", Integer, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("seconds", Float, nullable=False),
    ForeignKeyConstraint(["run", "evaluation"], _OF_EVALUATION),
    sqlite_with_rowid=False,
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", ForeignKey("run.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),  # one of Event
    Column("message", Text, nullable=False),
)

# The advantage of retrainings: mean over proxies of accuracy minus BN-ReLU's of the same purpose and seed.
SET_ADVANTAGE = """
UPDATE evaluation SET advantage = (
    SELECT avg(s.value - b.value) FROM score s
    JOIN evaluation r ON r.run = s.run AND r.purpose = :purpose AND r.seed = :seed AND r.name = :baseline
        AND r.verdict = 'fitness'
    JOIN score b ON b.run = r.run AND b.evaluation = r.id AND b.proxy = s.proxy AND b.objective = 'accuracy'
    WHERE s.run = evaluation.run AND s.evaluation = evaluation.id AND s.objective = 'accuracy'
) WHERE run = :run AND purpose = :purpose AND seed = :seed AND verdict = 'fitness' AND advantage IS NULL
"""
