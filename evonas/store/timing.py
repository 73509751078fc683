"""Queries of a run: how fast it goes, how long it went, and what it cost."""

import time

from sqlalchemy import func, select

from evonas.store import tables
from evonas.store.contents import Contents
from evonas.store.records import FULL_RECENT, RECENT, Cost, Event, Pace, Purpose
from evonas.workers.outcome import Verdict

OF_A_SEARCH = (Purpose.SEARCH, Purpose.BASELINE, Purpose.AUDIT, Purpose.RERANK)


class Timing(Contents):
    """The times of a run."""

    def pace(self) -> Pace:
        """How fast the search goes since its driver started."""
        e, v = tables.evaluation.c, tables.event.c
        fits = (e.purpose == Purpose.SEARCH) & (e.verdict == Verdict.FITNESS)
        # An inherited outcome takes no time.
        full = (e.run == self.run) & (e.seconds > 0) & ((e.purpose == Purpose.BASELINE) | fits)
        full &= e.seed == self.config.seed  # leaders that are measured again may be trained longer
        started = v.kind.in_((Event.STARTED, Event.RESUMED))
        number = self._number
        with self.engine.connect() as connection:
            latest = connection.execute(select(func.max(v.at)).where(v.run == self.run, started)).scalar()
            start = self.created if latest is None else number(latest)
            recent = (e.run == self.run) & (e.at >= start) & (e.purpose == Purpose.SEARCH)
            begun = func.min(e.at - e.seconds)  # of the first evaluation: before it workers start, BN-ReLU is trained
            query = select(begun, func.max(e.at), func.count(), func.sum(e.seconds)).where(recent)
            first, last, count, spent = connection.execute(query).one()
            newest = select(e.seconds).where(full).order_by(e.id.desc()).limit(FULL_RECENT).subquery()
            mean = connection.execute(select(func.avg(newest.c.seconds))).scalar()
        return Pace(
            max(0.0, number(last or start) - number(first or start)),
            count,
            number(spent or 0.0),
            number(mean or 0.0),
            self.seconds_driven(is_running=True),
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

    def worker_seconds(self) -> float:
        """Seconds of all evaluations of a search: of candidates, BN-ReLU, audits and the final table."""
        e = tables.evaluation.c
        query = select(func.sum(e.seconds)).where(e.run == self.run, e.purpose.in_(OF_A_SEARCH))
        with self.engine.connect() as connection:
            return self._number(connection.execute(query).scalar() or 0.0)

    def seconds_driven(self, *, is_running: bool) -> float:
        """Seconds that drivers searched, all of them together: each from its start to its last record, the newest to
        now while it is running."""
        e, v = tables.evaluation.c, tables.event.c
        opened = (v.run == self.run) & v.kind.in_((Event.STARTED, Event.RESUMED))
        started = select(v.epoch, func.min(v.at)).where(opened).group_by(v.epoch)
        last = [
            select(each.epoch, func.max(each.at)).where(each.run == self.run).group_by(each.epoch) for each in (e, v)
        ]
        newest = select(tables.run.c.epoch).where(tables.run.c.id == self.run)
        with self.engine.connect() as connection:
            driver = connection.execute(newest).scalar()
            starts = {epoch: self._number(at) for epoch, at in connection.execute(started)} or {1: self.created}
            ends = [{epoch: self._number(at) for epoch, at in connection.execute(query)} for query in last]
        until = {epoch: max(start, *(each.get(epoch, start) for each in ends)) for epoch, start in starts.items()}
        if is_running and driver in until:  # else it validates, or studies
            until[driver] = time.time()
        return sum(max(0.0, until[epoch] - start) for epoch, start in starts.items())

    def last_crash(self) -> str | None:
        """The newest message of a crash; it begins with the birth."""
        v = tables.event.c
        query = select(v.message).where(v.run == self.run, v.kind == Event.CRASH).order_by(v.id.desc())
        with self.engine.connect() as connection:
            return connection.execute(query).scalars().first()
