"""The parity gate on all graphs of the catalog, and on survivors of a run drawn at random, in all formats.

    python -m tests.benchmarks.parity --out parity.jsonl [--run RUN --survivors 10] [--formats program onnx compiled]

Resumable: a line of the file is one layer in one format. At the end, and with --table alone, it prints the table: the
largest error of each format in ulp, over all types, inputs, orders of memory and directions, beside the largest of
eager; what is refused has an exclamation mark. torch.compile takes about a minute a layer.
"""

import argparse
import json
import time
from pathlib import Path
from random import Random
from typing import Any

import torch

import evonas
from evonas.search_space.errors import InputError
from evonas.store.records import State
from tests.benchmarks.machine import machine

SEED = 0


def survivors(run: str, count: int) -> dict[str, str]:
    """Names -> texts of candidates that were trained to the full budget, drawn at random, each function once."""
    opened = evonas.open_run(run)
    records = [each for each in opened.top(10**6) if each.state is State.EVALUATED and not each.same_as]
    drawn = Random(SEED).sample(sorted(records, key=lambda each: each.birth), min(count, len(records)))
    return {f"{opened.name}#{each.birth}": each.graph for each in drawn}


def measured(name: str, text: str, form: Any) -> dict[str, Any]:
    started = time.monotonic()
    row: dict[str, Any] = {"layer": name, "formula": evonas.Graph.parse(text).formula, "format": form}
    try:
        parity = evonas.parity(text, [form])
    except InputError as error:
        return row | {"refused": f"not made: {error}"}
    compared = [each for each in parity.comparisons if form in each.errors]
    return row | {
        "eager": max(each.eager for each in compared),
        "error": max(each.errors[form] for each in compared),
        "forward": max(each.errors[form] for each in compared if each.direction == "forward"),
        "fragility": parity.fragility,
        "comparisons": len(compared),
        "refused": parity.refusal(form),
        "seconds": round(time.monotonic() - started, 1),
        "torch": torch.__version__,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    formats = [each for each in ("compiled", "program", "onnx") if any(row["format"] == each for row in rows)]
    lines = [f"{'layer':<26}{'fragility':>10}{'eager':>9}" + "".join(f"{each:>11}" for each in formats)]
    for name in dict.fromkeys(row["layer"] for row in rows):
        own = {row["format"]: row for row in rows if row["layer"] == name}
        made = [row for row in own.values() if "error" in row]
        figure = _written(made[0]["fragility"]) if made else "-"
        eager = _written(max(row["eager"] for row in made)) if made else "-"
        cells = [own.get(each) for each in formats]
        words = [
            "-"
            if cell is None
            else "none"
            if "error" not in cell
            else _written(cell["error"]) + "!" * bool(cell["refused"])
            for cell in cells
        ]
        lines.append(f"{name:<26}{figure:>10}{eager:>9}" + "".join(f"{word:>11}" for word in words))
    refused = [row for row in rows if row["refused"]]
    return [*lines, "", *(f"{row['layer']}: {row['refused']}" for row in refused)]


def _written(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run")
    parser.add_argument("--survivors", type=int, default=10)
    parser.add_argument("--layer", action="append", default=[], help="another layer, a text; repeatable")
    parser.add_argument("--formats", nargs="*", default=["program", "onnx", "compiled"])
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    if not arguments.table:
        layers = {} if arguments.run is None else survivors(arguments.run, arguments.survivors)
        layers |= {name: str(graph) for name, graph in evonas.catalog.graphs.items()}
        layers |= {text: text for text in arguments.layer}
        done = {(row["layer"], row["format"]) for row in rows}
        for form in arguments.formats:
            for name, text in layers.items():
                if (name, form) not in done:
                    rows.append(measured(name, text, form))
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(rows[-1], flush=True)
    print("\n".join([machine(), "", *table(rows)]))


if __name__ == "__main__":
    main()
