"""The one door by which stored rows become values. Another program, a bad disk or a person may have changed them: each
is checked, as a config is, and what does not fit is one line that names the row."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from math import inf, isfinite
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError
from sqlalchemy import Column, Row, Table

from evonas.config import Config
from evonas.config_errors import place_and_reason
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.graph import Graph
from evonas.search_space.mutation import OPERATORS
from evonas.search_space.wording import counted
from evonas.store import tables
from evonas.store.records import Candidate, Operator, Purpose, State, state_after
from evonas.workers.outcome import (
    DIVERGED,
    Crash,
    CrashKind,
    Fitness,
    JudgedBy,
    Outcome,
    Rejection,
    Verdict,
)
from evonas.workers.plugins import is_own

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A row of the table of runs."""

    id: int
    name: str
    config: str  # JSON
    versions: dict[str, str]
    seed: int
    created: float  # Unix seconds
    finished: float | None


@dataclass
class Door:
    """Checks the rows of one run. `where` names the database in messages."""

    where: str
    is_file: bool = True
    config: Config | None = None
    _signatures: dict[Table, set[tuple[type, ...]]] = field(default_factory=lambda: defaultdict(set))

    def refuse(self, row: str, reason: str) -> NoReturn:
        what = "file" if self.is_file else "database"
        raise InputError(f"{self.where}: {row}: {reason}; the {what} is damaged") from None

    # ------------------------------------------------------------------------- rows

    def check(self, table: Table, row: Sequence[Any]) -> None:
        """Every value of a whole row has its column's type and range. Rows of types that were seen before cost a
        look-up, and a comparison for each range."""
        signature = tuple(map(type, row))
        if signature not in self._signatures[table]:
            for column, value in zip(table.columns, row, strict=True):
                if type(value) not in _types(column):
                    kind = "NULL" if value is None else type(value).__name__
                    self.refuse(_name(table, row), f"{column.name} is {kind}, not {_kind(column)}")
            self._signatures[table].add(signature)
        for place, least, most in _RANGES[table]:
            value = row[place]
            if value is not None and not least <= value <= most:
                self.refuse(_name(table, row), f"{table.columns[place].name} is {value}, {_expected(least, most)}")

    def one_of(self, kind: type[E], value: str, row: str, key: int | str = "") -> E:
        try:
            return kind(value)
        except ValueError:
            self.refuse(
                f"{row} {key}".rstrip(),
                f"{kind.__name__.lower()} '{value:.40}' is unknown{did_you_mean(value, list(kind))}",
            )

    def run(self, row: Row[Any]) -> StoredRun:
        self.check(tables.run, row)
        here = f"run {row.id}"
        if not 0 < len(row.name) < 256 or "/" in row.name or "\0" in row.name:
            self.refuse(here, f"its name is {row.name!r:.40}, which no folder has")
        versions = self.mapping(row.versions, here, "versions")
        return StoredRun(
            id=row.id,
            name=row.name,
            config=row.config,
            versions={str(key): str(value) for key, value in versions.items()},
            seed=row.seed,
            created=row.created,
            finished=row.finished,
        )

    def parse_config(self, run: StoredRun) -> Config:
        """Raises InputError, too, where another version of evonas wrote what this one cannot read."""
        raw = self.mapping(run.config, f"run {run.id}", "config")
        try:
            return Config.model_validate_json(run.config)
        except ValidationError as error:
            path, reason = place_and_reason(error, raw)
            key = ".".join(map(str, path)) or "config"
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            key, reason = "config", str(error).split("\n")[0]
        raise InputError(
            f"{self.where}: written by evonas {run.versions.get('evonas')}, whose config this version cannot read: "
            f"{key}: {reason[:200]}"
        )

    def is_shared(self, run: StoredRun) -> bool:
        """Whether the config keeps its records in a database of its own choice, not in the run's folder."""
        store = self.mapping(run.config, f"run {run.id}", "config").get("store", {})
        return isinstance(store, dict) and store.get("url") is not None

    def mapping(self, text: str, row: str, column: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            self.refuse(row, f"{column} is no JSON")
        if not isinstance(value, dict):
            self.refuse(row, f"{column} is no JSON object")
        return value

    # ------------------------------------------------------------------------- values

    def candidate(self, row: Sequence[Any]) -> dict[str, Any]:
        """The fields of a candidate and its state, from a whole row. Ancestors are older, so that no lineage is a
        circle."""
        self.check(tables.candidate, row)
        values = dict(zip(_CANDIDATE, row, strict=True))
        del values["run"]
        birth = values["birth"]
        for name in ("parent", "equal_to", "second_parent"):
            older = values[name]
            if older is not None and not 0 < older < birth:
                self.refuse(f"birth {birth}", f"{name} is birth {older}, which is not older")
        if not 0 <= values["seen"] < birth:
            self.refuse(
                f"birth {birth}", f"it was proposed after {counted(values['seen'], 'outcome')}, and fewer candidates"
            )
        for name in values["operator"].split("+") if values["operator"] not in _ORIGINS else ():
            if name not in OPERATORS:
                hint = did_you_mean(name, [*_ORIGINS, *OPERATORS])
                self.refuse(f"birth {birth}", f"operator '{name:.40}' is unknown{hint}")
        values["state"] = self.one_of(State, values["state"], "birth", birth)
        return values

    def proposal(self, row: Sequence[Any]) -> Candidate:
        values = self.candidate(row)
        del values["state"]
        return Candidate(**values)

    def check_state(self, birth: int, state: State, outcome: Outcome | None) -> None:
        """A candidate's state is that of its outcome; both are written in one transaction."""
        if outcome is None and state != State.PENDING:
            self.refuse(f"birth {birth}", f"its state is {state}, and its outcome is not there")
        if outcome is not None and state != state_after(outcome):
            self.refuse(f"birth {birth}", f"its state is {state}, and its outcome leads to {state_after(outcome)}")

    def graph(self, birth: int, text: str, column: str = "graph") -> Graph:
        """A candidate's graph from one of its texts."""
        try:
            return Graph.parse(text)
        except InputError as error:
            self.refuse(f"birth {birth}", f"its {column} cannot be read ({error})")

    def outcome(self, row: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]]) -> Outcome:
        """The outcome of an evaluation whose row was checked."""
        verdict = self.one_of(Verdict, row["verdict"], "evaluation", row["id"])
        needed = _NEEDED[verdict]
        if row["advantage"] is not None and verdict is not Verdict.FITNESS:
            self.refuse(f"evaluation {row['id']}", f"a {verdict} has an advantage")
        for name in needed:
            if row[name] is None:
                self.refuse(f"evaluation {row['id']}", f"{name} of a {verdict} is NULL")
        match verdict:
            case Verdict.FITNESS:
                self._check_scores(f"evaluation {row['id']}", scores)
                return Fitness(**{name: dict(values) for name, values in scores.items()})
            case Verdict.REJECTION:
                if row["gate"] != DIVERGED:
                    self.check_gate(row["id"], row["gate"])
                if row["proxy"]:
                    self.check_proxy(row["id"], row["proxy"])
                return Rejection(*(row[name] for name in needed))
            case Verdict.CRASH:
                return Crash(self.one_of(CrashKind, row["gate"], "evaluation", row["id"]), row["message"])

    def purpose(self, row: Row[Any]) -> Purpose:
        """The purpose of an evaluation, which is that of a birth or of a layer with a name."""
        purpose = self.one_of(Purpose, row.purpose, "evaluation", row.id)
        if purpose is not Purpose.SUPERSEDED and (row.birth is None) == (row.name is None):
            whose = "no layer" if row.birth is None else f"birth {row.birth} and '{row.name:.40}'"
            self.refuse(f"evaluation {row.id}", f"it is that of {whose}")
        return purpose

    def check_gate(self, evaluation: int, gate: str) -> None:
        if gate not in self._gates:
            self.refuse(f"evaluation {evaluation}", f"gate '{gate:.40}' is none of the config's")

    def check_proxy(self, evaluation: int, proxy: str) -> None:
        if proxy not in self.proxies:
            self.refuse(f"evaluation {evaluation}", f"proxy '{proxy:.40}' is none of the config's")

    def check_score(self, row: Row[Any]) -> None:
        """A value of a fitness on a proxy, or an objective of a user's own, which may be negative."""
        assert self.config is not None
        if row.proxy:
            self.check_proxy(row.evaluation, row.proxy)
        own = row.objective in self.config.objectives and is_own(row.objective)
        if not (row.objective in _OBJECTIVES if row.proxy else own):
            self.refuse(f"evaluation {row.evaluation}", f"objective '{row.objective:.40}' is unknown")
        if not (row.value >= 0 if row.proxy else isfinite(row.value)):
            expected = _expected(0.0, inf) if row.proxy else "not finite"
            self.refuse(_name(tables.score, row), f"value is {row.value}, {expected}")

    @cached_property
    def judged_by(self) -> JudgedBy:
        assert self.config is not None
        return self.config.judged_by

    @cached_property
    def proxies(self) -> dict[str, int]:
        """Proxy -> its place in the config."""
        assert self.config is not None
        return {name: place for place, name in enumerate(self.config.proxies)}

    @cached_property
    def _gates(self) -> set[str]:
        assert self.config is not None
        return {gate.gate for gate in self.config.gates}

    def _check_scores(self, row: str, scores: Mapping[str, Mapping[str, float]]) -> None:
        for objective, values in scores.items():
            if objective in _OBJECTIVES and len(values) != len(self.proxies):
                self.refuse(row, f"{objective} of a fitness lacks a proxy")
        for objective in ("accuracy", self.judged_by):
            if objective not in scores:
                self.refuse(row, f"a fitness has no {objective}")
        for proxy, accuracy in scores["accuracy"].items():
            if accuracy > 1.0:
                self.refuse(row, f"its accuracy on {proxy} is {accuracy}, not 0.0 to 1.0")


_RANGES = {
    table: [(place, *column.info[tables.RANGE]) for place, column in enumerate(table.columns) if column.info]
    for table in tables.metadata.sorted_tables
}
_ORIGINS = {str(each) for each in Operator}
_CANDIDATE = tuple(column.name for column in tables.candidate.columns)
_OBJECTIVES = {each.name for each in fields(Fitness)} - {"own"}
_NEEDED = {
    Verdict.FITNESS: (),
    Verdict.REJECTION: ("gate", "proxy", "value", "threshold", "step"),
    Verdict.CRASH: ("gate", "message"),
}


def _types(column: Column[Any]) -> tuple[type, ...]:
    kind = column.type.python_type
    kinds = (float, int) if kind is float else (kind,)
    return (*kinds, type(None)) if column.nullable else kinds


def _kind(column: Column[Any]) -> str:
    return {int: "an integer", float: "a number", str: "text", bool: "true or false"}[column.type.python_type]


def _expected(least: float, most: float) -> str:
    return f"not {least} or more" if most > 1e9 else f"not {least} to {most}"


def _name(table: Table, row: Sequence[Any]) -> str:
    """The row as a person finds it: by the key beside the run."""
    keys = [(c.name, value) for c, value in zip(table.columns, row, strict=True) if c.primary_key and c.name != "run"]
    if table in (tables.candidate, tables.evaluation):
        return f"{'birth' if table is tables.candidate else 'evaluation'} {keys[0][1]!s:.40}"
    evaluation = f"evaluation {keys.pop(0)[1]!s:.40}: " if "evaluation" in table.columns else ""
    return f"{evaluation}{table.name} {', '.join(f'{value!s:.40}' for _, value in keys)}"
