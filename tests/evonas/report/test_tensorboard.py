"""Scalars for TensorBoard, read again by TensorBoard's own reader, against the records."""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

import evonas
from evonas.history import History
from evonas.report.tensorboard import scalars
from evonas.run import open_run
from evonas.search_space.errors import InputError
from evonas.store.records import Record
from evonas.workers.outcome import Fitness, Rejection
from tests.evonas.search_cases import EVERYTHING, FakePool, configured, searched
from tests.evonas.store_cases import FIT, REJECTED, new_run, propose_and_record

Curve = list[tuple[int, float]]


def curves(place: Path) -> dict[str, Curve]:
    """Each scalar with its steps."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    read = accumulator(str(place))
    read.Reload()
    return {name: [(each.step, each.value) for each in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_every_point_follows_from_the_records(tiny: dict[str, Any], tmp_path: Path) -> None:
    searched(tmp_path / "run", configured(tiny, births=30), FakePool(2))
    found = curves(evonas.tensorboard(tmp_path / "run", tmp_path / "board"))
    records = open_run(tmp_path / "run").reader.candidates()
    by_seq = sorted(records, key=lambda each: each.seq or 0)

    def mean(record: Record) -> float:
        return fmean(record.accuracy.values())

    values: dict[str, Callable[[int], float | None]] = {
        "births": lambda k: sum(each.seen < k for each in records),
        "best fitness": lambda k: max((e.advantage or 0.0 for e in survivors(by_seq[:k])), default=None),
        "mean fitness of the population": lambda k: population(by_seq[:k], mean),
        "stopped by depends_on_x": lambda k: stopped(by_seq[:k]).count("depends_on_x"),
        "stopped by quality": lambda k: stopped(by_seq[:k]).count("quality"),
    }
    for name, value in values.items():
        expected = {k: each for k in range(1, 31) if (each := value(k)) is not None}
        curve = found[f"over births/{name}"]
        assert [step for step, _ in curve] == list(expected), name
        assert [value for _, value in curve] == pytest.approx(list(expected.values()), abs=1e-6), name
    assert found.keys() == {
        f"over {over}/{name.partition('/')[2]}" for name in found for over in ("births", "core-seconds")
    }


def survivors(records: list[Record]) -> list[Record]:
    return [each for each in records if isinstance(each.outcome, Fitness)]


def stopped(records: list[Record]) -> list[str]:
    return [each.outcome.gate for each in records if isinstance(each.outcome, Rejection)]


def population(records: list[Record], mean: Any) -> float | None:
    """The newest ten survivors, against BN-ReLU, which is 0.4 and 0.3."""
    newest = survivors(records)[-10:]
    return fmean(map(mean, newest)) - 0.35 if newest else None


def test_a_run_is_followed_to_its_end_and_written_anew_without_a_step_twice(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    store = new_run(tmp_path / "run", configured(tiny, births=20))
    propose_and_record(store, 1, FIT, 1, 0.125)

    def goes_on() -> Any:
        yield propose_and_record(store, 2, REJECTED, 2)
        propose_and_record(store, 3, FIT, 3, 0.125)
        yield store.close()

    steps = goes_on()
    for _ in range(2):
        place = evonas.tensorboard(tmp_path / "run", tmp_path / "board", watch=0.5, sleep=lambda seconds: next(steps))
        assert place == tmp_path / "board" / "run"
        found = curves(place)
        assert found["over births/stopped by stability"] == [(1, 0.0), (2, 1.0), (3, 1.0)]
        # FIT took 1.5 s, REJECTED 0.5 s
        assert [step for step, _ in found["over core-seconds/births"]] == [2, 2, 4]


def test_looks_that_take_long_are_rare(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_run(tmp_path / "run", configured(tiny, births=20))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        store.close()

    monkeypatch.setattr("evonas.report.tensorboard.time.process_time", iter((1.0, 3.0, 3.0)).__next__)
    evonas.tensorboard(tmp_path / "run", tmp_path / "board", watch=0.5, sleep=sleep)
    assert slept == [40.0]


def test_the_surrogate_has_a_curve_once_it_has_pairs(tiny: dict[str, Any]) -> None:
    history = History(configured(tiny, births=60, **EVERYTHING))
    assert history.surrogate is not None
    assert "surrogate's rank correlation" not in scalars(history)
    history.surrogate.unranked = [(1, 20), (2, 10), (3, 40), (4, 30), (5, 50)]
    assert scalars(history)["surrogate's rank correlation"] == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)


def test_without_tensorboard_it_is_one_clear_line(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_run(tmp_path / "run", configured(tiny, births=20)).close()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"^TensorBoard's package is missing: pip install 'evonas\[tensorboard\]'$"):
        evonas.tensorboard(tmp_path / "run", tmp_path / "board")
    assert not (tmp_path / "board").exists()
