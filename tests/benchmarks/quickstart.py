"""The quickstart over several seeds: does it end with a layer that a person would want?

    python -m tests.benchmarks.quickstart --out DIR [--seeds 10] [--set KEY=VALUE ...]

Each seed is a run of its own under DIR, as `evonas search` makes it; what is finished is not run again, and what was
stopped goes on. The table has, for each seed: seconds from start to end; the layer that the search put first and the
best in the final table, of those that repeat no known one; the best textbook control, EvoNorm-B0 and S0, as differences
to BN-ReLU with the same fresh seeds in points of accuracy; and the differences that `evonas replay` finds. The first is
chosen before its fresh seeds, the best by them. No two runs share seeds.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import evonas
from evonas.config import BASELINE
from evonas.final import contenders
from evonas.intervals import estimate
from evonas.store.database import Database
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

CONFIG = "configs/quickstart.yaml"
EVONORMS = ("EvoNorm-B0", "EvoNorm-S0")
APART = 10  # from one seed to the next: a run takes its fresh seeds from those after its own


def row(folder: Path, seed: int, settings: list[str]) -> dict[str, Any]:
    """The figures of one seed; its search is run, or goes on, if need be."""
    place, kept = folder / f"seed-{seed}", folder / f"seed-{seed}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    began, whole = time.perf_counter(), not place.exists()
    if whole:
        run = evonas.search(CONFIG, place, settings=[f"seed={seed}", *settings], progress=False)
    else:
        run = evonas.resume(place, progress=False)
    seconds = time.perf_counter() - began if whole else None
    table = run.final_table()
    named = {each.name: each.difference for each in table if each.name}
    controls = {name: each for name, each in named.items() if name not in EVONORMS and each is not None}
    found = [each for each in table if each.birth and each.difference is not None and each.same_as is None]
    best = max(found, key=lambda each: each.difference or 0.0, default=None)
    chosen = [each.birth for each in contenders(Database.open(place).reader())]
    first = min(found, key=lambda each: chosen.index(each.birth), default=None)
    figures = {
        "seed": seed,
        "seconds": seconds,
        "first": first and first.difference,
        "first_formula": first and first.formula,
        "birth": best and best.birth,
        "formula": best and best.formula,
        "affine_of": best and best.affine_of,
        "difference": best and best.difference,
        "spread": best and best.difference_spread,
        "seeds": best and best.seeds,
        "control": max(controls, key=lambda name: controls[name]),
        **{name: named.get(name) for name in named},
        "replay": len(run.replay()),
    }
    kept.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def tell(rows: list[dict[str, Any]]) -> None:
    def points(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:+.1f}"

    print("seed  seconds  first  best  best control         B0     S0  replay  formula of the first")
    for each in rows:
        control = f"{each['control']} {points(each[each['control']])}"
        seconds = "-" if each["seconds"] is None else f"{each['seconds']:.0f}"
        formula = (each["first_formula"] or "none").replace("\n", "; ")
        print(
            f"{each['seed']:4}  {seconds:>7}  {points(each['first']):>5} {points(each['difference']):>5}  {control:18} "
            f"{points(each['EvoNorm-B0']):>6} {points(each['EvoNorm-S0']):>6}  {each['replay']:6}  {formula}"
        )
    for name, key in (("first", "first"), ("best", "difference")):
        mine = [each for each in rows if each[key] is not None]
        above = sum(each[key] > 0 for each in mine)
        level = sum(each[key] - each[each["control"]] >= -0.005 for each in mine)
        print(f"{name}: above {BASELINE} {above} of {len(rows)}, at the best control's level - 0.5 points {level}")
        if len(mine) > 1:
            mean, interval = estimate([each[key] for each in mine])
            low, high = interval or (mean, mean)
            print(
                f"  mean difference to {BASELINE} {points(mean)} [{points(low)}, {points(high)}] over {len(mine)} runs"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(machine())
    rows = []
    for seed in range(0, APART * arguments.seeds, APART):
        rows.append(row(arguments.out, seed, arguments.set))
        print(rows[-1], flush=True)
    tell(rows)


if __name__ == "__main__":
    in_one_line(main)
