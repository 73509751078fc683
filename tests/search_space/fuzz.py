"""Ten thousand texts that a reader of untrusted graphs must survive, the same in every run."""

import random
import string
from collections.abc import Callable, Iterator

from evonas.search_space.catalog import LAYERS
from evonas.search_space.language import LENGTH_MAX
from evonas.search_space.primitives import PRIMITIVES

COUNT = 10_000
WORDS = (
    *PRIMITIVES,
    *("x", "y", "zero", "v0", "v1", "scalar", "vector", "a", "b", "_", "self", "torch", "__builtins__"),
    *("0", "1", "0.5", "1e9", "1e400", "9" * 500, "0x" + "f" * 300, "1_000", "1j", "None", "True", "..."),
    *(
        "+",
        "-",
        "*",
        "/",
        "**",
        "//",
        "%",
        "@",
        "<<",
        "=",
        "==",
        ":=",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        ":",
        ";",
    ),
    *("\n", " ", "\t", "\r", "\x0c", "\\", "#", "'", '"', "'''", "f'{", "lambda", "if", "else", "for", "in", "not"),
    *("import", "def", "class", "return", "yield", "await", "del", "with", "\u2028", "\u00e9", "\U0001d465", "\ud800"),
)
ATTACKS = (
    "__import__('os').system('touch {canary}')",
    "open('{canary}', 'w')",
    "x.__class__.__mro__[-1].__subclasses__()",
    "(lambda: open('{canary}', 'w'))()",
    "[open('{canary}', 'w') for _ in x]",
    "exec(\"open('{canary}', 'w')\")",
    "tanh(open('{canary}', 'w'))",
    'f\'{{open("{canary}", "w")}}\'',
    "x if open('{canary}', 'w') else x",
    "a = open('{canary}', 'w')\nx",
    "import os\nx",
    "x.data.numpy().tofile('{canary}')",
    "scalar(open('{canary}', 'w'))",
    "max(x, zero, key=lambda a: open('{canary}', 'w'))",
)

AROUND = (
    *(("(", ")"), ("tanh(", ")"), ("-", ""), ("[", "]"), ("{", "}"), ("x+", ""), ("", "+x"), ("not ", ""), ("a=", "")),
    *(("max(x,", ")"), ("", ".a"), ("", "()"), ("", "[0]"), ("x if x else ", ""), ("x**", ""), ("lambda:", "")),
)


def texts(canary: str, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(kind, text), COUNT of them. `canary` is the path of a file that the attacks would make if they were run."""
    rng = random.Random(seed)
    valid = [row.text for row in LAYERS.values() if row.kind == "graph"]
    kinds: dict[str, Callable[[], str]] = {
        "bytes": lambda: rng.randbytes(rng.randint(0, 400)).decode(
            rng.choice(["latin-1", "utf-16", "cp437"]), "replace"
        ),
        "words": lambda: "".join(rng.choice(WORDS) for _ in range(rng.randint(1, 60))),
        "mutated": lambda: _mutated(rng, rng.choice(valid)),
        "spliced": lambda: _spliced(rng, rng.choice(valid), rng.choice(valid)),
        "deep": lambda: _deep(rng),
        "long": lambda: _long(rng),
        "attack": lambda: _mutated(rng, rng.choice(ATTACKS), 0.5).replace("{canary}", canary),
    }
    for i in range(COUNT):
        kind = [*kinds][i % len(kinds)]
        yield kind, kinds[kind]()


def _mutated(rng: random.Random, text: str, share: float = 1.0) -> str:
    characters = list(text)
    for _ in range(rng.randint(1, 2) if rng.random() < share else 0):
        at = rng.randrange(len(characters) + 1)
        characters[at : at + rng.randint(0, 2)] = rng.choice(
            rng.choice([["x", "1", "-", " "], string.printable, WORDS])
        )
    return "".join(characters)


def _spliced(rng: random.Random, one: str, other: str) -> str:
    return one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]


def _deep(rng: random.Random) -> str:
    depth = rng.choice([10, 49, 50, 51, 200, 1000, 3990])
    opening, closing = rng.choice(AROUND)
    return (opening * depth + "x" + closing * depth)[: rng.choice([LENGTH_MAX, 10**6])]


def _long(rng: random.Random) -> str:
    pieces = ["9", "a", "x;", "x\n", "x,", "#", "'", "\\\n", " ", "\u00e9", "a = x\n", "0.", "1e", "\x00", "x < ", "@"]
    pieces += ["b = scalar(1)\n", "tanh(x)\n", "-", "_", "f'{", '"""', "\ufeff", "*x,", "x*"]
    size = rng.choice([LENGTH_MAX - 10, LENGTH_MAX + 10, 10**6])
    piece = rng.choice(pieces)
    return (rng.choice(["", "x + ", "x\n"]) + piece * (size // len(piece)))[:size]
