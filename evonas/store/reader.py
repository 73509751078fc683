"""Queries of a run: the best, the related, the counts."""

from collections.abc import Container, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from statistics import fmean, stdev
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from evonas.rank_correlation import stopped_at
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.wording import counted
from evonas.store import loading, tables
from evonas.store.criteria import Criteria
from evonas.store.records import Measured, Operator, Purpose, Record, State, Trained
from evonas.store.timing import Timing
from evonas.workers.gates import needs_layer
from evonas.workers.outcome import DIVERGED, CrashKind, Fitness, Verdict, scored

EVERY = Criteria()
LOOKED_AT = 50  # survivors whose scores are compared at once


class Reader(Timing):
    """Queries on one run, over its records; `Database.reader` opens one."""

    def top(self, n: int = 10, by: str | None = None) -> list[Record]:
        """The best survivors: by advantage, or by the accuracy on one proxy. Of equal ones the first."""
        return self.named([birth for birth, _ in islice(self.ranked(by), n)])

    def families(self, n: int = 10) -> list[Record]:
        """The best survivor of each of the best families, by advantage."""
        return self.named(list(islice(_firsts(self.ranked()), n)))

    def check_proxy(self, name: str) -> None:
        """Raises InputError for what is no proxy of the run."""
        proxies = list(self.config.proxies)
        if name not in proxies:
            raise InputError(f"{self.name}: no proxy '{name}'{did_you_mean(name, proxies)}")

    def ranked(self, by: str | None = None, criteria: Criteria = EVERY) -> Iterator[tuple[int, str]]:
        """Births and families of the survivors that meet the criteria, best first: by advantage, or by the accuracy on
        one proxy. Of equal ones the first; none that inherited its outcome."""
        c, e, o, s = (each.c for each in (tables.candidate, tables.evaluation, tables.candidate_op, tables.score))
        (op,) = next((ops for ops in criteria.uses if len(ops) == 1), (None,))
        query = self._survivors(criteria)
        value: ColumnElement[Any]
        if by is None and op is not None:  # whose survivors have an index of their own
            query = query.join(tables.candidate_op, (o.run == c.run) & (o.birth == c.birth))
            query, value = query.where(o.run == self.run, o.op == op, o.advantage.is_not(None)), o.advantage
        else:
            query = query.join(tables.evaluation, (e.run == c.run) & (e.birth == c.birth))
            query, value = query.where(e.run == self.run, e.purpose == Purpose.SEARCH), e.advantage
            query = query.where(e.advantage.is_not(None))
        if by is not None:
            self.check_proxy(by)
            query = query.join(tables.score, (s.run == e.run) & (s.evaluation == e.id))
            query, value = query.where(s.run == self.run, s.objective == "accuracy", s.proxy == by), s.value
        query = query.order_by(value.desc(), c.birth).execution_options(yield_per=loading.PORTION)
        with self.engine.connect() as connection, connection.execute(query) as rows:
            yield from ((row.birth, row.family) for row in rows)

    def matching(self, births: Iterable[int], criteria: Criteria) -> dict[int, str]:
        """Those of these survivors that meet the criteria, with their families."""
        query, wanted, matched = self._survivors(criteria), sorted(births), dict[int, str]()
        with self.engine.connect() as connection:
            for start in range(0, len(wanted), loading.PORTION):
                some = tables.candidate.c.birth.in_(wanted[start : start + loading.PORTION])
                matched |= {row.birth: row.family for row in connection.execute(query.where(some))}
        return matched

    def _survivors(self, criteria: Criteria) -> Select[Any]:
        """Births and families of those that meet the criteria, each function once."""
        c = tables.candidate.c
        for proxy in criteria.minimum:
            self.check_proxy(proxy)
        query = select(c.birth, c.family).where(c.run == self.run, c.equal_to.is_(None), *criteria.conditions(self.run))
        return query.where(c.birth.in_([each.birth for each in self.front()])) if criteria.front else query

    def distinct(self, ranked: Iterable[tuple[int, str]], kept: Container[int] = ()) -> Iterator[int]:
        """The first birth of each family, and of those that trained alike, bit for bit, the first; and those that are
        to be kept."""
        traces: set[Hashable] = set()
        firsts = _firsts(ranked, kept)
        while births := list(islice(firsts, LOOKED_AT)):
            trace_of = self._traces(births)
            for birth in births:
                trace = trace_of.get(birth, birth)
                if trace not in traces or birth in kept:
                    yield birth
                traces.add(trace)

    def _traces(self, births: Sequence[int]) -> dict[int, Hashable]:
        """Birth -> all its accuracies and losses; without those whose loss an older version did not record."""
        e = tables.evaluation.c
        query = select(e.id, e.birth).where(e.run == self.run, e.purpose == Purpose.SEARCH, e.birth.in_(births))
        with self.engine.connect() as connection:
            birth_of = {row.id: row.birth for row in connection.execute(query)}
            scores = self._load.scores(connection, list(birth_of))
        return {
            birth_of[number]: tuple(tuple(mine[name].items()) for name in ("accuracy", "loss"))
            for number, mine in scores.items()
            if "loss" in mine
        }

    def front(self) -> list[Record]:
        """The survivors that no other one dominates in the config's objectives, by advantage."""
        query = select(tables.front.c.birth).where(tables.front.c.run == self.run)
        with self.engine.connect() as connection:
            records = self._load.in_order(connection, list(connection.execute(query).scalars()))
        for each in records:
            if each.state != State.EVALUATED:
                self.refuse(f"front {each.birth}", f"birth {each.birth} is {each.state}")
        return sorted(records, key=lambda each: (-(each.advantage or 0.0), each.birth))

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

    def measured_again(self) -> dict[int, list[Measured]]:
        """Leaders that were trained with further seeds -> what each seed that counts gave, the search's own first."""
        if not self.config.evolution.remeasure:
            return {}
        c, e = tables.candidate.c, tables.evaluation.c
        of_leader = select(c.birth, c.equal_to).where(c.run == self.run, c.operator == Operator.AGAIN)
        query = select(e.id, e.birth, e.seed, e.advantage).where(e.run == self.run, e.purpose == Purpose.SEARCH)
        query = query.where(e.verdict != Verdict.CRASH)
        measured: dict[int, Measured] = {}
        with self.engine.connect() as connection:
            leader = {row.birth: row.equal_to for row in connection.execute(of_leader)}
            births = sorted({*leader, *leader.values()})
            for start in range(0, len(births), loading.PORTION):
                some = e.birth.in_(births[start : start + loading.PORTION])
                rows = connection.execute(query.where(some)).all()
                scores = self._load.scores(connection, [row.id for row in rows])
                for number, birth, seed, advantage in rows:
                    if advantage is not None and not (isinstance(advantage, float) and abs(advantage) <= 1.0):
                        self.refuse(f"evaluation {number}", f"its advantage is {advantage!s:.40}")
                    accuracy = scores[number]["accuracy"] if number in scores else {}
                    measured[birth] = Measured(birth, seed, advantage, accuracy)
        by_leader: dict[int, list[Measured]] = {}
        for birth in filter(measured.__contains__, births):
            by_leader.setdefault(leader.get(birth, birth), []).append(measured[birth])
        again = {birth: {each.seed: each for each in of} for birth, of in by_leader.items() if len(of) > 1}
        return {birth: [of[seed] for seed in self.config.counted_seeds(of)] for birth, of in again.items()}

    def trained_in_search(self, births: Sequence[int]) -> list[Trained]:
        """The search's evaluations of some candidates, with their learning curves."""
        e, trained = tables.evaluation.c, list[Trained]()
        with self.engine.connect() as connection:
            for start in range(0, len(births), loading.PORTION):
                some = e.birth.in_(births[start : start + loading.PORTION])
                trained += self._load.trained(connection, e.purpose == Purpose.SEARCH, some)
        return trained

    def unranked(self) -> list[tuple[float, float]]:
        """Predicted and measured fitness of the candidates that a worker judged and that the surrogate predicted and
        did not choose; what a gate stopped has the figure of `stopped_at`."""
        c, e, s, by = tables.candidate.c, tables.evaluation.c, tables.score.c, self.config.judged_by
        query = select(c.birth, c.predicted, e.gate, e.value, s.proxy, s.value).order_by(c.birth)
        query = query.join(tables.evaluation, (e.run == c.run) & (e.birth == c.birth))
        of_fitness = (s.run == e.run) & (s.evaluation == e.id) & (s.objective == by)
        of_fitness &= s.proxy.in_(list(self.config.proxies))  # the whole key: else each birth reads all scores
        query = query.outerjoin(tables.score, of_fitness)
        query = query.where(c.run == self.run, c.predicted.is_not(None), c.pool.is_(None), c.equal_to.is_(None))
        query = query.where(e.purpose == Purpose.SEARCH, e.verdict.in_((Verdict.FITNESS, Verdict.REJECTION)))
        expected: dict[int, float] = {}
        measured: dict[int, float] = {}
        scores: dict[int, dict[str, float]] = {}
        gates = tuple(gate.gate for gate in self.config.gates)
        with self.engine.connect() as connection:
            for birth, predicted, gate, stopped, proxy, score in connection.execute(query):
                if gate and needs_layer(gate):
                    continue
                if not all(
                    isinstance(each, float) and abs(each) < 1e18 for each in (predicted, 0.0 if gate else score)
                ):
                    self.refuse(f"birth {birth!s:.40}", f"its predicted or measured {by} is none: {[predicted, score]}")
                expected[birth] = predicted
                if gate:
                    measured[birth] = stopped_at(gate, stopped, gates)
                else:
                    scores.setdefault(birth, {})[proxy] = score
        measured |= {birth: fmean(scored(by, each).values()) for birth, each in scores.items()}
        return [(predicted, measured[birth]) for birth, predicted in expected.items()]

    def spread(self) -> dict[str, tuple[float, int]]:
        """Proxy -> the standard deviation of BN-ReLU's accuracy, or bits per byte, over the seeds that it was trained
        with so far, for as many steps as the final table's, and their number; empty below two."""
        fitnesses, units = self.baseline_accuracies(self.config.final_protocol.recipe.steps), self.config.units
        found = {proxy: [units.of(proxy).read(fitness) for fitness in each] for proxy, each in fitnesses.items()}
        return {proxy: (stdev(each), len(each)) for proxy, each in found.items() if len(each) > 1}

    def baseline_accuracies(self, steps: int) -> dict[str, list[float]]:
        """Proxy -> BN-ReLU's fitnesses on the validation images after so many steps, one for each seed that it was
        trained with so far."""
        accuracies: dict[str, list[float]] = {proxy: [] for proxy in self.config.proxies}
        for purpose in (Purpose.BASELINE, Purpose.RERANK):
            for each in self.evaluations(purpose):
                if each.name == self.config.baseline and isinstance(each.evaluation.outcome, Fitness):
                    for point in each.evaluation.points:  # one of each of the recipe's seeds
                        if point.step == steps:
                            accuracies[point.proxy].append(point.accuracy)
        return accuracies

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Candidates by state, and those stopped by gate (or lost, by kind of crash)."""
        e = tables.evaluation.c
        of_search = (e.run == self.run) & (e.purpose == Purpose.SEARCH)
        stopped = select(e.gate, func.count()).where(of_search, e.gate.is_not(None)).group_by(e.gate)
        with self.engine.connect() as connection:
            gates = connection.execute(stopped).all()
        names = {*CrashKind, DIVERGED, *(gate.gate for gate in self.config.gates)}
        for gate, n in gates:
            if gate not in names:
                self.refuse(counted(n, "evaluation"), f"gate '{gate!s:.40}' is none of the config's")
        return self.states(), {str(gate): n for gate, n in gates}

    def states(self) -> dict[str, int]:
        """Candidates by state."""
        c = tables.candidate.c
        last = select(func.max(c.birth)).where(c.run == self.run).scalar_subquery()
        by_state = select(c.state, func.count(), last).where(c.run == self.run).group_by(c.state)
        with self.engine.connect() as connection:
            states = connection.execute(by_state).all()
        check = self._door.one_of
        by_name = {str(check(State, str(state), counted(n, "candidate"))): n for state, n, _ in states}
        total = sum(by_name.values())
        if states and total != states[0][2]:
            self.refuse(f"birth {states[0][2]!s:.40}", f"it is the last of {counted(total, 'candidate')}")
        return by_name


def _firsts(ranked: Iterable[tuple[int, str]], kept: Container[int] = ()) -> Iterator[int]:
    """The first birth of each family, and those that are to be kept."""
    families: set[str] = set()
    for birth, family in ranked:
        if family not in families or birth in kept:
            families.add(family)
            yield birth
