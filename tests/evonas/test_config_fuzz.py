"""Mutated configs: each is a config or one short line, at once. tests/benchmarks/fuzz_configs.py reads thousands."""

import json
import signal
from collections.abc import Iterator

import pytest
import yaml

from evonas.config_file import resolve_config
from evonas.search_space.errors import InputError
from tests.benchmarks.fuzz_configs import LIMIT_SECONDS, LINE_MAX, answer, stop
from tests.evonas.config_fuzz import SHIPPED, VALUES, configs


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


@pytest.mark.parametrize("setting", ["data={source: folder, path: %s}", "store={url: %s}"])
def test_a_place_of_any_text_is_a_config_or_one_short_line(setting: str) -> None:
    raw = yaml.safe_load(SHIPPED[0])
    for text in [each for each in (*VALUES, "a/" * 3000) if isinstance(each, str)]:
        try:
            resolve_config(raw, [setting % json.dumps(text)])
        except InputError as error:
            assert "\n" not in str(error)
            assert len(str(error)) <= LINE_MAX


def test_a_home_of_nobody_is_told_before_a_search() -> None:
    with pytest.raises(InputError, match=r"data\.path: '~nobodyhere/x': Could not determine home directory"):
        resolve_config(yaml.safe_load(SHIPPED[0]), ["data={source: folder, path: ~nobodyhere/x}"])
