"""YAML of plain values: numbers as people write them, and one line about what is none or too much."""

import pytest

from evonas.config_file import parse_config
from evonas.workers.gates.stability import Stability
from tests.evonas.config_cases import TEXT, changed, complaint
from tests.evonas.config_fuzz import LAUGHS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e8", 1e8),
        ("1E8", 1e8),
        ("1.0e+8", 1e8),
        ("2.5e-3", 2.5e-3),
        ("100000000", 1e8),
        (".5", 0.5),
        ("5.", 5.0),
        ("010", 10),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    """YAML 1.1 takes 1e8 for a text."""
    config = parse_config(changed("      steps: 5", f"      gradient_norm_max: {text}"))
    (gate,) = [each for each in config.gates if isinstance(each, Stability)]
    assert gate.gradient_norm_max == value


@pytest.mark.parametrize("word", ["yes", "no", "on", "off"])
def test_only_true_and_false_are_booleans(word: str) -> None:
    assert complaint(changed("  steps: 20", f"  flip: {word}")).startswith("run.yaml:7: recipe.flip: ")
    assert parse_config(changed("name: table", f"name: {word}")).name == word


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.yaml:1: expected keys such as name and proxies, found NoneType"),
        ("# nothing\n", "run.yaml:1: expected keys such as name and proxies, found NoneType"),
        ("- a\n- b\n", "run.yaml:1: expected keys such as name and proxies, found list"),
        ("quickstart", "run.yaml:1: expected keys such as name and proxies, found str"),
        ("name: a\nseed: b: c\n", "run.yaml:2: not YAML: mapping values are not allowed here"),
        ("name: a\nproxies: {\n", "run.yaml:3: not YAML: expected the node content, but found '<stream end>'"),
        ("name: a\n\tseed: 1\n", "run.yaml:2: not YAML: found character '\\t' that cannot start any token"),
        ("name: *a\n", "run.yaml:1: not YAML: found undefined alias 'a'"),
        (
            "name: a\x00",
            "run.yaml: not YAML that evonas reads: unacceptable character #x0000: special characters are not allowed",
        ),
        ("name: a\n---\nname: b\n", "run.yaml:2: not YAML: but found another document"),
    ],
)
def test_what_is_no_config_at_all(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3000,
        "a: &a [*a]\n",  # contains itself
        "name: a\nseed: " + "9" * 5000 + "\n",
        "name: a\nseed: !!int abc\n",
        "name: !!binary aGVsbG8=\n",
        "name: !!timestamp 2026-11-22\n",
        "name: !!python/object:os.system [true]\n",
        "? [a]\n: 3\n",
        'name: "\\ud800"\n',
        "null: 3\n1: 2\n",
    ],
)
def test_strange_yaml_is_one_line(text: str) -> None:
    assert complaint(text).startswith("run.yaml")


NESTED = "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 'x'}]\n" for i in range(3000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "run.yaml:5: more than 10,000 values"),
        (LAUGHS + TEXT, "run.yaml:5: more than 10,000 values"),
        ("a: &a [*a]\n", "run.yaml:1: contains itself"),
        (NESTED, "run.yaml:20: nested deeper than 20"),
        ("[" * 30 + "]" * 30, "run.yaml:1: not YAML: nested deeper than 20"),
        ("name: " + "x" * 5_000_000, "run.yaml: longer than 100,000 characters; a config is not"),
        (changed("seed: 3", "seed: !!bool maybe"), "run.yaml:3: not YAML: 'maybe' is no bool"),
        (changed("seed: 3", 'seed: !!float ""'), "run.yaml:3: not YAML: '' is no float"),
        (changed("seed: 3", "seed: !!int abc"), "run.yaml:3: not YAML: 'abc' is no int"),
    ],
)
def test_yaml_of_too_much_or_nothing_is_told_at_once(text: str, message: str) -> None:
    assert complaint(text) == message
