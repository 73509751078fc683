"""Mutated configs: each is a config or one short line, at once. tests/benchmarks/fuzz_configs.py reads thousands."""

import signal
from collections.abc import Iterator

import pytest

from tests.benchmarks.fuzz_configs import LIMIT_SECONDS, answer, stop
from tests.evonas.config_fuzz import configs


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, stop)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize(("count", "seed"), [(80, 1), pytest.param(2000, 2, marks=pytest.mark.long)])
def test_a_mutated_config_is_a_config_or_one_short_line(count: int, seed: int) -> None:
    answers = set()
    for _, text, settings in configs(count, seed):
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
        answers.add(answer(text, settings))
    assert answers == {"config", "refused"}
