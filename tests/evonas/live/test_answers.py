"""Answers are built once for all who ask, and building rests."""

from threading import Event, Thread

import pytest

from evonas.live.answers import GLANCE_SECONDS, KEPT, REST, Answers
from evonas.search_space.errors import InputError, NotThere
from evonas.store.choice import BadChoice


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_built_once_for_each_state_and_rests_after_it_was_built_again() -> None:
    clock, state, built = Clock(), ["a"], list[str]()
    answers = Answers(clock)

    def build() -> str:
        clock.now += 2.0  # seconds that it takes
        built.append(state[0])
        return state[0]

    def ask() -> str:
        return answers.get("question", lambda: state[0], build).text

    assert [ask(), ask()] == ["a", "a"]
    clock.now += GLANCE_SECONDS
    assert ask() == "a"
    assert built == ["a"]  # the state is looked at, and has not changed
    state[0] = "b"
    assert ask() == "a"  # it was looked at within the last second
    clock.now += GLANCE_SECONDS
    assert ask() == "b"
    state[0] = "c"
    clock.now += 2.0 * REST - 0.1
    assert ask() == "b"  # what took 2 seconds rests for 20 times as long
    assert answers.get("another", lambda: 1, lambda: "at once").text == "at once"
    clock.now += GLANCE_SECONDS
    assert ask() == "c"
    assert built == ["a", "b", "c"]


def test_while_one_builds_the_others_get_the_old_answer() -> None:
    clock, begun, go_on, state = Clock(), Event(), Event(), ["old"]
    answers = Answers(clock)
    answers.get("question", lambda: state[0], lambda: "old")
    clock.now, state[0] = 10.0, "new"

    def slow() -> str:
        begun.set()
        assert go_on.wait(10)
        return "new"

    builder = Thread(target=lambda: answers.get("question", lambda: state[0], slow))
    builder.start()
    assert begun.wait(10)
    assert answers.get("question", lambda: state[0], lambda: "never").text == "old"
    go_on.set()
    builder.join()
    assert answers.get("question", lambda: state[0], lambda: "never").text == "new"


@pytest.mark.parametrize(("kind", "status"), [(NotThere, 404), (BadChoice, 422), (InputError, 503)])
def test_what_cannot_be_answered_is_one_line(kind: type[InputError], status: int) -> None:
    def build() -> str:
        raise kind("no\nsuch  thing")

    answer = Answers(Clock()).get("question", lambda: 0, build)
    assert (answer.status, answer.text) == (status, '{"error":"no such thing"}')


def test_old_answers_go() -> None:
    clock, built = Clock(), list[int]()
    answers = Answers(clock)

    def ask(number: int) -> None:
        clock.now += GLANCE_SECONDS
        answers.get(number, lambda: 0, lambda: built.append(number) or "")

    for number in [*range(KEPT), 0, KEPT, 1, 0]:
        ask(number)
    assert built == [*range(KEPT), KEPT, 1]  # 1 was asked for longest ago when KEPT came
