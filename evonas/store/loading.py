"""Rows of one run's tables, joined and checked, as records."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from evonas.store import tables
from evonas.store.records import Purpose, Record, Trained
from evonas.store.stored import Door
from evonas.workers.outcome import Evaluation, Measurement, Point

PORTION = 500  # rows that are asked for by their keys: every database takes so many
PARTS = (tables.score, tables.point, tables.measurement)
_WIDTH = len(tables.candidate.columns)
_EVALUATION = tuple(column.name for column in tables.evaluation.columns)


class Loader:
    """Reads what other queries have chosen; every row passes the door."""

    def __init__(self, run: int, door: Door) -> None:
        self.run = run
        self.door = door

    def records(self, connection: Connection, *where: Any) -> Iterator[Record]:
        """Candidates with their outcomes in the search, by birth."""
        c, e = tables.candidate, tables.evaluation
        outcome_of = (e.c.run == c.c.run) & (e.c.birth == c.c.birth) & (e.c.purpose == Purpose.SEARCH)
        query = select(c, e).outerjoin(e, outcome_of).where(c.c.run == self.run, *where).order_by(c.c.birth)
        rows = connection.execute(query).all()
        number = _WIDTH + list(e.columns).index(e.c.id)
        scores = self.scores(connection, [row[number] for row in rows if row[number] is not None])
        names = [column.name for column in e.columns]
        for row in rows:
            values = self.door.candidate(row[:_WIDTH])
            if row[number] is None:
                self.door.check_state(values["birth"], values["state"], None)
                yield Record(**values, seq=None, advantage=None, outcome=None)
                continue
            self.door.check(e, row[_WIDTH:])
            evaluation = dict(zip(names, row[_WIDTH:], strict=True))
            mine = scores.get(evaluation["id"], {})
            outcome = self.door.outcome(evaluation, mine)
            self.door.check_state(values["birth"], values["state"], outcome)
            yield Record(
                **values,
                seq=evaluation["seq"],
                advantage=evaluation["advantage"],
                outcome=outcome,
                accuracy=mine.get("accuracy", {}),
                seconds=evaluation["seconds"],
                host=evaluation["host"],
                seed=evaluation["seed"],
            )

    def in_order(self, connection: Connection, births: Sequence[int]) -> list[Record]:
        """The records of these births, in this order; their formulas can be read."""
        records: dict[int, Record] = {}
        for start in range(0, len(births), PORTION):
            some = tables.candidate.c.birth.in_(births[start : start + PORTION])
            records |= {each.birth: each for each in self.records(connection, some)}
        for birth in births:
            if birth not in records:
                self.door.refuse(f"birth {birth!s:.40}", "other tables name it, and it is not there")
            self.door.graph(birth, records[birth].formula, "formula")
        return [records[birth] for birth in births]

    def trained(self, connection: Connection, *where: Any, kinds: Sequence[Table] = PARTS) -> list[Trained]:
        """Evaluations of any purpose, in the order of their recording; `kinds`: which of their parts are read."""
        c = tables.evaluation.c
        query = select(tables.evaluation).where(c.run == self.run, *where).order_by(c.id)
        rows = connection.execute(query).all()
        parts = self.parts(connection, rows, kinds)
        return [
            Trained(
                purpose=self.door.purpose(row),
                birth=row.birth,
                name=row.name,
                formula=row.layer,
                seed=row.seed,
                evaluation=self.evaluation(row, parts[row.id]),
                advantage=row.advantage,
                epoch=row.epoch,
                at=row.at,
            )
            for row in rows
        ]

    def evaluation(self, row: Row[Any], parts: Mapping[str, Sequence[Any]]) -> Evaluation:
        """An evaluation with its rows of other tables, all of them checked."""
        values = dict(zip(_EVALUATION, row, strict=True))
        return Evaluation(
            self.door.outcome(values, _by_field(parts["score"])),
            tuple(Measurement(*each[3:]) for each in parts["measurement"]),  # what follows run, evaluation, position
            tuple(Point(proxy, step, accuracy, loss, n) for _, _, proxy, n, step, accuracy, loss in parts["point"]),
            values["seconds"],
            values["memory_mb"],
            values["host"],
            values["conditions"] or "",
            values["attempts"],
        )

    def parts(
        self, connection: Connection, evaluations: Sequence[Row[Any]], kinds: Sequence[Table] = PARTS
    ) -> dict[int, dict[str, list[Any]]]:
        """Evaluation -> table -> rows, after a check of the evaluations' own rows."""
        for row in evaluations:
            self.door.check(tables.evaluation, row)
        numbers = [row.id for row in evaluations]
        parts: dict[int, dict[str, list[Any]]] = {number: defaultdict(list) for number in numbers}
        for table in kinds:
            for row in self._rows_of(connection, table, numbers):
                parts[row.evaluation][table.name].append(row)
        order = self.door.proxies
        for each in parts.values():
            each["score"].sort(key=self._place)
            each["point"].sort(key=lambda row: (row.repeat, row.step, order[row.proxy]))
            each["measurement"].sort(key=lambda row: row.position)
        return parts

    def scores(self, connection: Connection, numbers: Sequence[int]) -> dict[int, dict[str, dict[str, float]]]:
        """Evaluation -> the values of its fitness by field, the proxies in the config's order."""
        rows = defaultdict[int, list[Any]](list)
        for row in sorted(self._rows_of(connection, tables.score, numbers), key=self._place):
            rows[row.evaluation].append(row)
        return {number: _by_field(mine) for number, mine in rows.items()}

    def _place(self, score: Any) -> int:
        """The place of a score's proxy in the config; that of an objective without one is behind."""
        return self.door.proxies.get(score.proxy, len(self.door.proxies))

    def _rows_of(self, connection: Connection, table: Table, numbers: Sequence[int]) -> Iterator[Any]:
        """The checked rows of some evaluations."""
        for start in range(0, len(numbers), PORTION):
            asked = set(numbers[start : start + PORTION])
            for row in connection.execute(select(table).where(table.c.run == self.run, table.c.evaluation.in_(asked))):
                self.door.check(table, row)
                if row.evaluation not in asked:  # a damaged index leads to it
                    self.door.refuse(f"{table.name} of evaluation {row.evaluation}", "it is not where its index says")
                if table is tables.score:
                    self.door.check_score(row)
                elif row.proxy or table is not tables.measurement:  # some gates measure on no proxy
                    self.door.check_proxy(row.evaluation, row.proxy)
                if table is tables.measurement:
                    self.door.check_gate(row.evaluation, row.gate)
                yield row


def _by_field(scores: Sequence[Any]) -> dict[str, dict[str, float]]:
    """The values of a fitness by its field: on each proxy, or by the name of a user's own objective."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for _, _, proxy, objective, value in scores:
        values[objective if proxy else "own"][proxy or objective] = value
    return values
