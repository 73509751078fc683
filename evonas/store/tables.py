"""The schema. Migrations in `migrations/versions` build it; a test compares the two."""

from collections.abc import Callable
from math import inf
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
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

from evonas.search_space.graph import NODES_MAX

RANGE = "range"  # in a column's info: the least and the most that a number in it can be


def _between(least: float, most: float) -> dict[str, tuple[float, float]]:
    return {RANGE: (least, most)}


_COUNT, _ORDINAL, _ANY_ID = (_between(least, 2**31 - 1) for least in (0, 1, -(2**31)))
_SEED = _between(0, 2**63 - 1)
_SHARE, _DIFFERENCE = _between(0.0, 1.0), _between(-1.0, 1.0)  # of accuracy
_FACTOR = _between(0.0, inf)
_SECONDS, _MEGABYTES = _between(0.0, 1e10), _between(0.0, 1e12)  # 300 years; an exabyte
_UNIX_SECONDS = _between(0.0, 253402300799.0)  # to the year 9999


class _Checked(Boolean):
    """A boolean whose damage reaches the door: SQLAlchemy's own reads any text of a SQLite file as true."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        if dialect.supports_native_boolean:
            return None
        values = {0: False, 1: True}
        return lambda value: values.get(value, value)


metadata = MetaData()
VERSION_TABLE = "evonas_version"  # Alembic's, under a name that no other tool's table has

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True, info=_ORDINAL),
    Column("name", String, nullable=False, unique=True),
    Column("config", Text, nullable=False),  # the resolved config, JSON
    Column("seed", BigInteger, nullable=False, info=_SEED),
    Column("epoch", Integer, nullable=False, info=_ORDINAL),  # rises whenever a driver takes the run over
    Column("writes", Integer, nullable=False, server_default="0", info=_COUNT),  # transactions of drivers
    Column("versions", Text, nullable=False),  # of evonas, the language, torch ..., and the folder; JSON
    Column("created", Float, nullable=False, info=_UNIX_SECONDS),  # Unix seconds
    Column("finished", Float, info=_UNIX_SECONDS),
)

candidate = Table(
    "candidate",
    metadata,
    Column("run", ForeignKey("run.id"), primary_key=True),
    Column("birth", Integer, primary_key=True, info=_ORDINAL),
    Column("graph", Text, nullable=False),  # the genotype; the truth
    Column("formula", Text, nullable=False),  # the live canonical expression
    Column("digest", String, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("family", String, nullable=False),
    Column("parent", Integer, info=_ORDINAL),  # birth
    Column("operator", String, nullable=False),  # one of Operator, or edits: insert+op
    Column("equal_to", Integer, info=_ORDINAL),  # birth of the candidate whose outcome it inherits
    Column("seen", Integer, nullable=False, info=_COUNT),  # outcomes recorded when it was proposed
    Column("batch_dependent", _Checked, nullable=False),
    Column("live_nodes", Integer, nullable=False, info=_between(0, NODES_MAX)),
    Column("state", String, nullable=False),  # one of State
    Column("amplification", Float, info=_FACTOR),  # of input of one position; NULL where it was not measured
    Column("amplification_constant", Float, info=_FACTOR),
    Column("amplification_sample", Float, info=_FACTOR),
    Column("second_parent", Integer, info=_ORDINAL),  # birth, of which `cross` took a part
    Column("pool", Integer, info=_ORDINAL),  # children among which the surrogate ranked it first; NULL: not ranked
    Column("predicted", Float, info=_between(0.0, 1.0)),  # mean accuracy, by the surrogate
    Index("candidate_by_state", "run", "state"),
    Index("candidate_by_parent", "run", "parent"),
    Index(
        "candidate_by_second_parent",
        "run",
        "second_parent",
        sqlite_where=text("second_parent IS NOT NULL"),
        postgresql_where=text("second_parent IS NOT NULL"),
    ),
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
    # Counted by the run's driver; below zero: superseded.
    Column("id", Integer, primary_key=True, autoincrement=False, info=_ANY_ID),
    Column("layer", Text, nullable=False),  # formula
    Column("birth", Integer, info=_ORDINAL),  # NULL for a layer that is no candidate
    Column("name", String),  # of a layer that is no candidate: the catalog's, or its formula
    Column("purpose", String, nullable=False),  # one of Purpose
    Column("seed", BigInteger, nullable=False, info=_SEED),
    Column("attempts", Integer, nullable=False, server_default="1", info=_ORDINAL),  # the row is that of the last one
    Column("epoch", Integer, nullable=False, info=_ORDINAL),
    Column("seq", Integer, info=_ORDINAL),  # order of the search's outcomes
    Column("verdict", String, nullable=False),  # one of Verdict
    Column("gate", String),  # of a rejection; the kind of a crash
    Column("proxy", String),  # where it was rejected
    Column("value", Float),  # what the gate measured
    Column("threshold", Float),
    Column("step", Integer, info=_COUNT),
    Column("message", Text),  # of a crash
    # NULL where it is no fitness: mean over proxies of accuracy minus BN-ReLU's, same purpose and seed; where the
    # config's objective is the loss, of exp(-loss) in the search.
    Column("advantage", Float, info=_DIFFERENCE),
    Column("host", String, nullable=False),
    Column("conditions", String),  # device, processor, threads, torch; NULL before schema 0002
    Column("seconds", Float, nullable=False, info=_SECONDS),
    Column("memory_mb", Float, nullable=False, info=_MEGABYTES),
    Column("at", Float, nullable=False, info=_UNIX_SECONDS),  # Unix seconds
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
    Column("proxy", String, primary_key=True),  # "" where the objective is a user's own
    Column("objective", String, primary_key=True),  # a field of Fitness, or module:name
    Column("value", Float, nullable=False),  # 0 or more, unless the objective is a user's own
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
    Column("repeat", Integer, primary_key=True, server_default="0", info=_COUNT),  # with the n-th of the recipe's seeds
    Column("step", Integer, primary_key=True, info=_COUNT),
    Column("accuracy", Float, nullable=False, info=_SHARE),
    Column("loss", Float, nullable=False),
    ForeignKeyConstraint(["run", "evaluation"], _OF_EVALUATION),
    sqlite_with_rowid=False,
)

measurement = Table(
    "measurement",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("evaluation", Integer, primary_key=True),
    Column("position", Integer, primary_key=True, info=_COUNT),
    Column("gate", String, nullable=False),
    Column("proxy", String, nullable=False),  # "" for gates that need none
    Column("value", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("step", Integer, nullable=False, info=_COUNT),
    Column("passed", _Checked, nullable=False),
    Column("seconds", Float, nullable=False, info=_SECONDS),
    ForeignKeyConstraint(["run", "evaluation"], _OF_EVALUATION),
    sqlite_with_rowid=False,
)

training = Table(  # one of a layer on a network, data and a recipe of their own: a validation, an ablation, a card
    "training",
    metadata,
    Column("run", ForeignKey("run.id"), primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False, info=_ORDINAL),  # counted by the run's driver
    Column("purpose", String, nullable=False),  # one of Purpose: what it was first trained for
    Column("digest", String, nullable=False),  # of all that decides it
    Column("setting", String, nullable=False),  # digest of the same without layer and seed
    Column("layer", Text, nullable=False),  # formula
    Column("birth", Integer, info=_ORDINAL),  # of the candidate, or of that of which `layer` lacks a part
    Column("name", String),  # of a layer that is no candidate: the catalog's, or its formula
    Column("config", String, nullable=False),  # its name
    Column("proxy", String, nullable=False),  # the config's name of the network
    Column("data", String, nullable=False),  # source
    Column("split", String),  # digest, as in the run's versions; NULL where another machine trained
    Column("judged_on", String, nullable=False),  # one of JudgedOn
    Column("architecture", String, nullable=False),
    Column("steps", Integer, nullable=False, info=_ORDINAL),
    Column("batch_size", Integer, nullable=False, info=_ORDINAL),
    Column("learning_rate", Float, nullable=False, info=_FACTOR),
    Column("seed", BigInteger, nullable=False, info=_SEED),
    Column("protocol", Text, nullable=False),  # data, recipe and network, JSON
    Column("accuracy", Float, info=_SHARE),  # NULL: it diverged
    Column("loss", Float),  # mean training loss
    Column("classes", Integer, nullable=False, info=_ORDINAL),
    Column("seconds", Float, nullable=False, info=_SECONDS),  # of a core
    Column("conditions", String, nullable=False),
    Column("epoch", Integer, nullable=False, info=_ORDINAL),
    Column("at", Float, nullable=False, info=_UNIX_SECONDS),  # Unix seconds
    ForeignKeyConstraint(["run", "birth"], ["candidate.run", "candidate.birth"]),
    UniqueConstraint("run", "digest"),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True, info=_ORDINAL),
    Column("run", ForeignKey("run.id"), nullable=False),
    Column("epoch", Integer, nullable=False, info=_ORDINAL),
    Column("at", Float, nullable=False, info=_UNIX_SECONDS),
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
