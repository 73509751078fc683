"""Queries of a run: the best, the related, the counts, the pace."""

import time
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, select

from evonas.config import BASELINE
from evonas.rank_correlation import STOPPED
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.wording import counted
from evonas.store import loading, tables
from evonas.store.contents import Contents
from evonas.store.records import FULL_RECENT, RECENT, Cost, Event, Operator, Pace, Purpose, Record, State
from evonas.workers.gates import needs_layer
from evonas.workers.outcome import DIVERGED, CrashKind, Fitness, Verdict, scored


class Reader(Contents):
    """Queries on one run, over its records; `Database.reader` opens one."""

    def top(self, n: int = 10, by: str | None = None, after: int | None = None) -> list[Record]:
        """The best survivors: by advantage, or by the accuracy on one proxy; those after the birth `after` in this
        order. Of equal ones the first."""
        query, value = self._ranked(by)
        birth = tables.evaluation.c.birth
        if after is not None:
            last = self.candidate(after)
            at = last.advantage if by is None else last.accuracy.get(by)
            if at is None:
                raise InputError(f"{self.name}: birth {after} is none of the survivors")
            query = query.where(value <= at)  # where the index is entered
            query = query.where((value < at) | (birth > after))
        with self.engine.connect() as connection:
            births = list(connection.execute(query.limit(n)).scalars())
            return self._load.in_order(connection, births)

    def families(self, n: int = 10, by: str | None = None, after: int | None = None) -> list[Record]:
        """The best survivor of each of the best families, ranked as `top` ranks; those after the birth `after`."""
        if not n:
            return []
        query, _ = self._ranked(by)
        query = query.add_columns(tables.candidate.c.family).execution_options(yield_per=loading.PORTION)
        families: set[str] = set()
        births: list[int] = []
        is_after = after is None
        with self.engine.connect() as connection, connection.execute(query) as rows:
            for birth, family in rows:
                if is_after and family not in families:
                    births.append(birth)
                    if len(births) == n:
                        break
                families.add(family)
                is_after = is_after or birth == after
        if not is_after:
            raise InputError(f"{self.name}: birth {after} is none of the survivors")
        with self.engine.connect() as connection:
            return self._load.in_order(connection, births)

    def check_proxy(self, name: str) -> None:
        """Raises InputError for what is no proxy of the run."""
        proxies = list(self.config.proxies)
        if name not in proxies:
            raise InputError(f"{self.name}: no proxy '{name}'{did_you_mean(name, proxies)}")

    def _ranked(self, by: str | None) -> tuple[Select[Any], ColumnElement[Any]]:
        """The births of the survivors, best first, and the value that ranks them; of equal ones the first."""
        evaluation, score = tables.evaluation.c, tables.score.c
        mine = (tables.candidate.c.run == evaluation.run) & (tables.candidate.c.birth == evaluation.birth)
        value: ColumnElement[Any]
        if by is None:
            query, value = select(evaluation.birth).where(evaluation.advantage.is_not(None)), evaluation.advantage
        else:
            self.check_proxy(by)
            its_score = (score.run == evaluation.run) & (score.evaluation == evaluation.id)
            query, value = select(evaluation.birth).join(tables.score, its_score), score.value
            query = query.where(score.run == self.run, score.objective == "accuracy", score.proxy == by)
        query = query.join(tables.candidate, mine).where(tables.candidate.c.equal_to.is_(None))
        query = query.where(evaluation.run == self.run, evaluation.purpose == Purpose.SEARCH)
        return query.order_by(value.desc(), evaluation.birth), value

    def front(self) -> list[Record]:
        """The survivors that no other one dominates in the config's objectives, by advantage."""
        query = select(tables.front.c.birth).where(tables.front.c.run == self.run)
        with self.engine.connect() as connection:
            records = self._load.in_order(connection, list(connection.execute(query).scalars()))
        for each in records:
            if each.state != State.EVALUATED:
                self.refuse(f"front {each.birth}", f"birth {each.birth} is {each.state}")
        return sorted(records, key=lambda each: (-(each.advantage or 0.0), each.birth))

    def find(
        self, uses: Sequence[str] = (), lacks: Sequence[str] = (), *, batch_dependent: bool | None = None, n: int = 10
    ) -> list[Record]:
        """The best survivors whose live nodes use all of some operations and none of others."""
        for op in (*uses, *lacks):
            if op not in PRIMITIVES:
                raise InputError(f"no operation '{op}'{did_you_mean(op, PRIMITIVES)}")
        c, e = tables.candidate.c, tables.evaluation.c

        def using(op: str) -> ColumnElement[bool]:
            o = tables.candidate_op.alias().c
            return exists().where(o.run == self.run, o.op == op, o.birth == c.birth)

        query = select(c.birth).where(c.run == self.run)
        if uses:
            o = tables.candidate_op.c
            query = query.join(tables.candidate_op, (o.run == c.run) & (o.birth == c.birth))
            query = query.where(o.run == self.run, o.op == uses[0], o.advantage.is_not(None))
            query = query.order_by(o.advantage.desc(), c.birth)
        else:
            query = query.join(tables.evaluation, (e.run == c.run) & (e.birth == c.birth))
            query = query.where(e.run == self.run, e.purpose == Purpose.SEARCH, e.advantage.is_not(None))
            query = query.where(c.equal_to.is_(None)).order_by(e.advantage.desc(), c.birth)
        query = query.where(*(using(op) for op in uses[1:]), *(~using(op) for op in lacks))
        if batch_dependent is not None:
            query = query.where(c.batch_dependent.is_(batch_dependent))
        with self.engine.connect() as connection:
            return self._load.in_order(connection, list(connection.execute(query.limit(n)).scalars()))

    def lineage(self, birth: int) -> list[Record]:
        """A candidate and its ancestors, the oldest first."""
        self.candidate(birth)
        c = tables.candidate.c
        line = select(c.birth, c.parent).where(c.run == self.run, c.birth == birth).cte("line", recursive=True)
        parents = select(c.birth, c.parent).where(c.run == self.run, c.birth == line.c.parent)
        line = line.union_all(parents.where(c.birth < line.c.birth))  # a damaged line must end, too
        with self.engine.connect() as connection:
            return self._load.in_order(connection, sorted(connection.execute(select(line.c.birth)).scalars()))

    def children(self, birth: int) -> list[int]:
        """The births of which this one is a parent, the first or the second."""
        c = tables.candidate.c
        of = (c.parent == birth) | (c.second_parent == birth)
        query = select(c.birth).where(c.run == self.run, of).order_by(c.birth)
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def measured_again(self) -> dict[int, list[float | None]]:
        """Leaders that were trained with further seeds -> the advantage with each; None where a gate stopped it."""
        c, e = tables.candidate.c, tables.evaluation.c
        query = select(c.equal_to, e.advantage).join(tables.evaluation, (e.run == c.run) & (e.birth == c.birth))
        query = query.where(c.run == self.run, c.operator == Operator.AGAIN, e.purpose == Purpose.SEARCH)
        again: dict[int, list[float | None]] = {}
        with self.engine.connect() as connection:
            for birth, advantage in connection.execute(query.where(e.verdict != Verdict.CRASH).order_by(c.birth)):
                again.setdefault(birth, []).append(advantage)
        return again

    def unranked(self) -> list[tuple[float, float]]:
        """Predicted and measured fitness of the candidates that a worker judged and that the surrogate predicted and
        did not choose; what a gate stopped counts as `STOPPED`."""
        c, e, s, by = tables.candidate.c, tables.evaluation.c, tables.score.c, self.config.judged_by
        query = select(c.birth, c.predicted, e.verdict, e.gate, s.proxy, s.value).order_by(c.birth)
        query = query.join(tables.evaluation, (e.run == c.run) & (e.birth == c.birth))
        of_fitness = (s.run == e.run) & (s.evaluation == e.id) & (s.objective == by)
        query = query.outerjoin(tables.score, of_fitness)
        query = query.where(c.run == self.run, c.predicted.is_not(None), c.pool.is_(None), c.equal_to.is_(None))
        query = query.where(e.purpose == Purpose.SEARCH, e.verdict.in_((Verdict.FITNESS, Verdict.REJECTION)))
        expected: dict[int, float] = {}
        scores: dict[int, dict[str, float]] = {}
        with self.engine.connect() as connection:
            for birth, predicted, verdict, gate, proxy, value in connection.execute(query):
                stopped = verdict == Verdict.REJECTION
                if stopped and needs_layer(gate):
                    continue
                value = STOPPED if stopped else value
                if not all(isinstance(each, float) and abs(each) < 1e18 for each in (predicted, value)):
                    self.refuse(f"birth {birth!s:.40}", f"its predicted or measured {by} is none: {[predicted, value]}")
                expected[birth] = predicted
                scores.setdefault(birth, {}).update({} if stopped else {proxy: value})
        fitness = {birth: fmean(scored(by, each).values()) if each else STOPPED for birth, each in scores.items()}
        return [(expected[birth], each) for birth, each in fitness.items()]

    def spread(self) -> dict[str, tuple[float, int]]:
        """Proxy -> the standard deviation of BN-ReLU's accuracy over the seeds that it was trained with so far, and
        their number; empty below two."""
        accuracies = self.baseline_accuracies()
        return {proxy: (stdev(each), len(each)) for proxy, each in accuracies.items() if len(each) > 1}

    def baseline_accuracies(self) -> dict[str, list[float]]:
        """Proxy -> BN-ReLU's accuracies on the validation images, one for each seed that it was trained with so far."""
        accuracies: dict[str, list[float]] = {proxy: [] for proxy in self.config.proxies}
        for purpose in (Purpose.BASELINE, Purpose.RERANK):
            for each in self.evaluations(purpose):
                if each.name == BASELINE and isinstance(each.evaluation.outcome, Fitness):
                    for point in each.evaluation.points:  # one of each of the recipe's seeds
                        if point.step == self.config.recipe.steps:
                            accuracies[point.proxy].append(point.accuracy)
        return accuracies

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Candidates by state, and those stopped by gate (or lost, by kind of crash)."""
        c, e = tables.candidate.c, tables.evaluation.c
        last = select(func.max(c.birth)).where(c.run == self.run).scalar_subquery()
        by_state = select(c.state, func.count(), last).where(c.run == self.run).group_by(c.state)
        of_search = (e.run == self.run) & (e.purpose == Purpose.SEARCH)
        stopped = select(e.gate, func.count()).where(of_search, e.gate.is_not(None)).group_by(e.gate)
        with self.engine.connect() as connection:
            states = connection.execute(by_state).all()
            gates = connection.execute(stopped).all()
        check, names = self._door.one_of, {*CrashKind, DIVERGED, *(gate.gate for gate in self.config.gates)}
        by_name = {str(check(State, str(state), counted(n, "candidate"))): n for state, n, _ in states}
        total = sum(by_name.values())
        if states and total != states[0][2]:
            self.refuse(f"birth {states[0][2]!s:.40}", f"it is the last of {counted(total, 'candidate')}")
        for gate, n in gates:
            if gate not in names:
                self.refuse(counted(n, "evaluation"), f"gate '{gate!s:.40}' is none of the config's")
        return by_name, {str(gate): n for gate, n in gates}

    def pace(self) -> Pace:
        """How fast the search goes since its driver started."""
        e, v = tables.evaluation.c, tables.event.c
        fits = (e.purpose == Purpose.SEARCH) & (e.verdict == Verdict.FITNESS)
        # An inherited outcome takes no time.
        full = (e.run == self.run) & (e.seconds > 0) & ((e.purpose == Purpose.BASELINE) | fits)
        started = v.kind.in_((Event.STARTED, Event.RESUMED))
        number = self._number
        with self.engine.connect() as connection:
            latest = connection.execute(select(func.max(v.at)).where(v.run == self.run, started)).scalar()
            start = self.created if latest is None else number(latest)
            recent = (e.run == self.run) & (e.at >= start) & (e.purpose == Purpose.SEARCH)
            query = select(func.min(e.at), func.max(e.at), func.count(), func.sum(e.seconds)).where(recent)
            first, last, count, spent = connection.execute(query).one()
            newest = select(e.seconds).where(full).order_by(e.id.desc()).limit(FULL_RECENT).subquery()
            mean = connection.execute(select(func.avg(newest.c.seconds))).scalar()
        since = max(0.0, time.time() - start)
        return Pace(
            max(0.0, number(last or start) - number(first or start)),
            count,
            number(spent or 0.0),
            number(mean or 0.0),
            since,
        )

    def costs(self) -> dict[bool, Cost]:
        """The cost of the newest outcomes, by whether their candidate has a parent."""
        c, e = tables.candidate.c, tables.evaluation.c
        newest = select(func.max(e.seq)).where(e.run == self.run).scalar_subquery()
        has_parent = c.parent.is_not(None)
        query = select(has_parent, func.count(), func.sum(e.seconds)).where(e.run == self.run, e.seq > newest - RECENT)
        query = query.join(tables.candidate, (c.run == e.run) & (c.birth == e.birth)).group_by(has_parent)
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        return {bool(kind): Cost(count, self._number(seconds)) for kind, count, seconds in rows}
