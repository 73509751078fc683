"""The table of gates as Markdown: `python -m evonas.workers.gates > docs/gates.md`."""

from inspect import getdoc
from textwrap import fill

from pydantic.fields import FieldInfo

from evonas.workers.gates import GATES
from evonas.workers.gates.base import Gate, Needs

_ABOUT = (
    "Made by `python -m evonas.workers.gates > docs/gates.md`. A config lists its gates by name, those with options as "
    "a mapping; see `configs/quickstart.yaml`. They are asked in that order, and the first that a candidate fails "
    "stops it. Neighbours that share their work (`signal` and `gradient`, or several of one kind) are asked proxy by "
    "proxy."
)
_NEEDS = {
    Needs.LAYER: "The layer alone: milliseconds, in the driver, before any worker is asked. These come first.",
    Needs.NETWORK: "A network at its initial weights: some passes over one batch of training images on each proxy.",
    Needs.TRAINING: "A training: the candidate's own, after so many steps. Their steps never fall.",
}


def page() -> str:
    """Every gate with its options; docs/gates.md is this."""
    lines = ["# The gates", "", fill(_ABOUT, 100)]
    for needs in Needs:
        lines += ["", f"## {needs.capitalize()}", "", _NEEDS[needs], "", "| gate | a candidate passes if | options |"]
        lines += ["| --- | --- | --- |"]
        lines += [_line(name, kind) for name, kind in GATES.items() if kind.needs is needs]
    return "\n".join(lines) + "\n"


def _line(name: str, kind: type[Gate]) -> str:
    text = " ".join((getdoc(kind) or "").split())
    options = [_option(each, field) for each, field in kind.model_fields.items() if each != "gate"]
    return f"| `{name}` | {text} | {'<br>'.join(options)} |".replace("  |", " |")


def _option(name: str, field: FieldInfo) -> str:
    if field.is_required():
        default = ""
    else:
        default = f": {'null' if field.default is None else field.default}"
    return f"`{name}{default}`" + (f" {field.description}" if field.description else "")


if __name__ == "__main__":
    print(page(), end="")
