"""Sentences on a final table: the same in the terminal and in a report."""

from collections.abc import Iterator, Sequence

from evonas.config import BASELINE
from evonas.final import FinalRow
from evonas.known_layers import remark
from evonas.search_space.wording import counted
from evonas.units import Units


def conclusion(rows: Sequence[FinalRow], reference: str, than: str = BASELINE) -> Iterator[str]:
    """The verdict on a final table, and next steps if nothing new beat BN-ReLU."""
    yield from verdict(rows, than)
    candidates = [row for row in rows if row.birth and row.difference is not None]
    find = next((row for row in candidates if row.same_as is None), None)
    if candidates and _is_complete(rows) and (find is None or _lead(find) <= 0):
        yield from next_steps(reference, candidates[0].shown.units)


def verdict(rows: Sequence[FinalRow], than: str = BASELINE) -> Iterator[str]:
    """Sentences on a final table: the best layer that is not known against BN-ReLU and against the best known layer."""
    complete = [row for row in rows if row.difference is not None]
    candidates = [row for row in complete if row.birth]
    finds = [row for row in candidates if row.same_as is None]
    known = [row for row in complete if row not in finds]
    if not _is_complete(rows):
        yield f"{than} failed with fresh seeds: no layer can be compared with it."
        return
    if not candidates:
        return
    best, find, control = candidates[0], next(iter(finds), None), known[0]
    baseline = next(row for row in complete if not row.birth and row.name == than)
    others = [baseline] if control is baseline else [baseline, control]
    if _lead(best) <= 0:
        yield f"No layer beat {than} with fresh seeds."
    if find is None:
        yield f"Best: birth {best.birth}, which is {best.same_as}, a known layer: {_against(best, [baseline], than)}."
        yield "No other candidate was retrained: nothing new was found."
    elif find is not best:
        led = _against(best, [baseline], than)
        yield f"The best candidate, birth {best.birth}, is {best.same_as}, a known layer: {led}."
        yield f"The best that is not known is birth {find.birth}, {_against(find, others, than)}."
    elif _lead(find) > 0:
        yield f"Best: birth {find.birth}, {_against(find, others, than)}."
    elif control is not baseline:
        yield f"The best known layer is {_name(control)}, {_against(control, [baseline], than)}."
    if find is not None and find.affine_of:
        yield f"Birth {find.birth} is {remark(None, find.affine_of)}."


def _is_complete(rows: Sequence[FinalRow]) -> bool:
    """Whether BN-ReLU, or another baseline, was trained with all seeds."""
    return any(row.birth is None and row.difference is not None for row in rows)


def _against(row: FinalRow, others: Sequence[FinalRow], than: str) -> str:
    """The differences to BN-ReLU, and to the best known layer where that is another one, with their intervals; and how
    much they prove."""
    (first, *rest), known = map(row.difference_to, others), others[-1]
    unit = row.shown.unit
    text = f"{unit.with_interval(first)} {unit.of_differences} against {than}"
    for second in rest:
        text += f" and {unit.with_interval(second)} against {_name(known)}, the best known layer"
    intervals = [interval for _, interval in (first, *rest) if interval]
    if not intervals:
        return f"{text} ({counted(row.seeds, 'seed')}: a tendency, not a proof)"
    proves = all(low > 0 or high < 0 for low, high in intervals)
    return f"{text} (95 % intervals over {counted(row.seeds, 'seed')}{'' if proves else ': a tendency, not a proof'})"


def _lead(row: FinalRow) -> float:
    assert row.gain is not None
    return row.gain


def _name(row: FinalRow) -> str:
    return str(row.name or row.same_as)


def next_steps(reference: str, units: Units) -> Iterator[str]:
    """Advice after a search that found no better layer."""
    larger, figures = "a larger config: evonas init --template cifar10", "accuracies"
    if units.in_bits:
        larger, figures = "larger networks", "figures"
    yield "What next:"
    yield f"  a longer search, or {larger}"
    yield f"  what each gate stopped, and how often wrongly: evonas funnel {reference}"
    yield f"  how far seeds alone spread the {figures}: evonas noise {reference}/config.yaml"
