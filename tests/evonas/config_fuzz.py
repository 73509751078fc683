"""Mutated configs, reproducible by their seed: values, keys, tags, aliases, depths, sizes, bytes and settings."""

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import yaml

from tests.conftest import ROOT, TINY

SHIPPED = [path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))]
TEXTS = [*SHIPPED, yaml.safe_dump(TINY, sort_keys=False)]

VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3.5,
        -0.0,
        1e-300,
        1e30,
        1e300,
        2**31,
        2**32,
        2**62,
        2**63,
        2**64,
        10**40,
        100_000,
    ),
    *(
        "",
        " ",
        "x",
        "~",
        "~nobody/x",
        "\0",
        "a\0b",
        "a\nb",
        "é",
        "\ud800",
        "../..",
        "/",
        ".",
        "-",
        "auto",
        "never",
        "paper",
    ),
    *(
        "1e8",
        "1e999",
        ".nan",
        ".inf",
        "2026-11-27",
        "0x1F",
        "007",
        "x" * 300,
        "x" * 5000,
        "name: a",
        "{",
        "y",
        "scalar(1)",
    ),
    *(
        "sqlite:///a\0b",
        "postgresql://h:port/d",
        "h:port",
        "h:99999999",
        "ray://",
        "BN-ReLU",
        "EvoNorm-S0",
        "x / std_hw(x)",
    ),
    *([], {}, [[]], [{}], {"": ""}, {"gate": "finite"}, {"architecture": "preact_resnet"}, {"stability": None}),
    *(
        [1e30],
        [2**63],
        [100_000],
        [10**9] * 3,
        [0],
        ["x"] * 101,
        [f"scalar({i})" for i in range(120)],
        ["x", *map(str, range(99))],
    ),
    *({"architecture": name} for name in ("mobilenet_v2", "efficientnet", "resnet")),
    {"architecture": "preact_resnet", "blocks": [1000] * 8, "width": 10**6, "bottleneck": True},
    {"architecture": "mobilenet_v2", "stages": [{"expand": 100, "channels": 10**6, "blocks": 1000, "stride": 1}] * 100},
    {
        "architecture": "efficientnet",
        "width": 100,
        "stages": [{"expand": 6, "channels": 64, "blocks": 900, "stride": 2}],
    },
]
TAGS = [
    "bool",
    "int",
    "float",
    "null",
    "str",
    "seq",
    "map",
    "set",
    "omap",
    "pairs",
    "binary",
    "timestamp",
    "merge",
    "python/none",
]
PIECES = [
    *(
        "\0",
        "\t",
        "\n",
        "\r",
        "\u2028",
        "\ufeff",
        "\x7f",
        "é",
        ":",
        "- ",
        "? ",
        "&a ",
        "*a",
        "!!",
        "!!float",
        "|",
        ">",
        "%",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        "'",
        '"',
        "#",
        "---\n",
        "...\n",
        "<<: ",
        "[" * 500,
        "{a: " * 200,
        "9" * 5000,
        "x" * 20_000,
        "&a [*a]",
    ),
]
LAUGHS = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}' if i else 'ha'] * 9)}]\n" for i in range(12))


def paths(raw: Any) -> list[list[Any]]:
    """The path of everything in a config."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    return [[key, *rest] for key, value in items for rest in ([], *paths(value))]


def _inside(raw: Any, path: list[Any]) -> Any:
    for key in path[:-1]:
        raw = raw[key]
    return raw


def _with_value(text: str, rng: Random) -> str:
    raw = copy.deepcopy(yaml.safe_load(text))
    for _ in range(rng.choice((1, 1, 2, 3))):
        path = rng.choice(paths(raw))
        _inside(raw, path)[path[-1]] = copy.deepcopy(rng.choice(VALUES))
        if not raw or not paths(raw):
            break
    return json.dumps(raw)  # which is YAML, of whatever the values are


def _with_key(text: str, rng: Random) -> str:
    raw = copy.deepcopy(yaml.safe_load(text))
    path = rng.choice([each for each in paths(raw) if isinstance(each[-1], str)])
    place = _inside(raw, path)
    value = place.pop(path[-1])
    if rng.random() < 0.7:
        place[
            rng.choice([f"{path[-1]}s", path[-1][1:], "x" * 3000, "\0", "a\nb", "", "null", "<<", path[-1].upper()])
        ] = value
    return json.dumps(raw)


def _with_tag(text: str, rng: Random) -> str:
    lines = text.splitlines()
    place = rng.choice([i for i, line in enumerate(lines) if ": " in line and not line.lstrip().startswith("#")])
    key, _, value = lines[place].partition(": ")
    other = rng.choice([value, "maybe", '""', "[a]", "{a: 1}", "~"])
    lines[place] = f"{key}: !!{rng.choice(TAGS)} {other}"
    return "\n".join(lines)


def _with_alias(text: str, rng: Random) -> str:
    depth = rng.randrange(2, 12)
    laughs = "".join(LAUGHS.splitlines(keepends=True)[:depth])
    return rng.choice(
        (f"{laughs}{text}\nspace: *l{depth - 1}\n", f"{laughs}name: *l{depth - 1}\n", f"{text}\nx: &x [*x]\n")
    )


def _with_pieces(text: str, rng: Random) -> str:
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((0, 0, 1, 5, 40)))
        text = text[:start] + rng.choice([*PIECES, text[start : start + 60], ""]) + text[end:]
    return text


def _with_size(text: str, rng: Random) -> str:
    count = rng.choice((3_000, 30_000, 300_000))
    key = rng.choice(("name", "seed", "gates", "space", "data", "evolution"))
    value = rng.choice(
        ("x" * count, "9" * count, "[" * count, "[" + "1, " * (count // 3) + "1]", "{a: " * (count // 4), " " * count)
    )
    return f"{text}\n{key}: {value}\n"


KINDS = {
    "value": _with_value,
    "key": _with_key,
    "tag": _with_tag,
    "alias": _with_alias,
    "bytes": _with_pieces,
    "size": _with_size,
}


def setting(rng: Random) -> str:
    key = ".".join(map(str, rng.choice(paths(TINY))))
    value = json.dumps(rng.choice(VALUES)) if rng.random() < 0.7 else rng.choice(PIECES)
    return f"{rng.choice((key, f'{key}.a', 'a' * 500, '.'.join('a' * 500), key[1:]))}={value}"


def configs(count: int, seed: int = 0) -> Iterator[tuple[str, str, list[str]]]:
    """Kind, text and settings of so many configs."""
    rng = Random(seed)
    kinds = [*KINDS, "value", "value", "setting"]
    for _ in range(count):
        kind = rng.choice(kinds)
        text = rng.choice(TEXTS)
        if kind == "setting":
            yield kind, text, [setting(rng) for _ in range(rng.choice((1, 2, 3)))]
        else:
            yield kind, KINDS[kind](text, rng), []
