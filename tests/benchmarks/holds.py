"""Does a find hold? The trainings of `evonas validate --on`, by processes that share one GPU, on a machine without Ray.

    python -m tests.benchmarks.holds --layers layers.json --export RUN --top 5 --baseline EvoNorm-B0 --baseline BN-SiLU
    python -m tests.benchmarks.holds --layers layers.json --config configs/cifar10-validation.yaml \
        --config configs/fashion-validation.yaml --set execution.cuda_graphs=true --batch-size 128 --batch-size 8 \
        --seeds 5 --device cuda --processes 13 --seconds 500 --out validation.jsonl
    evonas validate RUN --top 5 --baseline EvoNorm-B0 --baseline BN-SiLU --on configs/cifar10-validation.yaml \
        --batch-sizes 128,8 --seeds 5 --out validation.jsonl

The first writes the best candidates of RUN's final table, BN-ReLU, RUN's baselines and those named as {name: text}; the
second trains them; the third, where RUN is, prints the tables. `--set` and `--batch-size` are for every config. All
trainings with one seed come before those with the next, so that whole seeds are there when the time is up. Run again,
it goes on. Small networks leave most of a GPU idle: NVIDIA's MPS (`nvidia-cuda-mps-control -d`) shares it.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from multiprocessing import TimeoutError as TimeIsUp
from multiprocessing import get_context
from pathlib import Path

import torch

from evonas.config import Config
from evonas.config_input import load_config
from evonas.files import write
from evonas.retraining import baselines as baselines_of
from evonas.retraining import fresh_seeds
from evonas.search_space.catalog.named import NamedGraph, named_graph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.studies.results import Row
from evonas.studies.trainings import Asked, count_of_classes, on_test_images, row_of, served, validation_file
from evonas.workers import data, machine
from evonas.workers.outcome import Crash, Evaluation
from evonas.workers.pool import evaluate_safely
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine as described

DATA_SETS = 8  # that a process keeps, since the trainings alternate between them


def layers_of(run: str, top: int, baselines: Sequence[str]) -> dict[str, str]:
    """The best candidates of a finished run's final table, the run's baselines and other known layers, as texts."""
    from evonas.run import open_run  # the machine that trains has no run

    opened = open_run(run)
    if not opened.finished:
        raise InputError(f"{run}: the search has not ended")
    best = [row.birth for row in opened.final_table() if row.birth and row.difference is not None][:top]
    known = {str(each.name): str(each.graph) for each in baselines_of(opened.config)}
    known |= {each.name: str(each.graph) for each in map(named_graph, baselines)}
    return {f"{opened.name}#{birth}": str(opened.graph(birth)) for birth in best} | known


def trainings(layers: Mapping[str, str], configs: Sequence[Config], seeds: int) -> list[Asked]:
    """Each training once, seed by seed; as `evonas validate` asks for them."""
    graphs = [NamedGraph(name, Graph.parse(text)) for name, text in layers.items()]
    asked = (
        each
        for n in range(seeds)
        for config in configs
        for layer in graphs
        for each in on_test_images(config, layer, fresh_seeds(config, seeds)[n])
    )
    return list(dict.fromkeys(asked))


def start(device: str) -> None:
    """Prepare a process."""
    torch.set_num_threads(1)
    data._load = lru_cache(maxsize=DATA_SETS)(data._load.__wrapped__)
    if device == "cuda":
        torch.utils.deterministic.fill_uninitialized_memory = False  # a kernel for each new tensor, which nothing reads


def train(item: tuple[int, Asked, str]) -> tuple[int, Evaluation]:
    number, training, device = item
    return number, evaluate_safely(training.job, device)


def run(missing: Sequence[Asked], device: str, processes: int, seconds: float, out: Path) -> None:
    """Train until the time is up, and keep each row."""
    file, classes, began = validation_file(out), count_of_classes(missing), time.monotonic()
    items = [(number, training, device) for number, training in enumerate(missing)]
    with get_context("spawn").Pool(processes, start, (device,)) as pool:
        answers = pool.imap_unordered(train, items)
        for done in range(1, len(missing) + 1):
            try:
                number, evaluation = answers.next(timeout=max(0.1, began + seconds - time.monotonic()))
            except TimeIsUp:
                print(f"time is up: {done - 1} of {len(missing)}", flush=True)
                return
            training = missing[number]
            if isinstance(evaluation.outcome, Crash):
                print(f"crashed: {training.layer} on {training.proxy}: {evaluation.outcome.message}", flush=True)
                continue
            row = row_of(training, evaluation, classes[training], threads=1)
            file.keep(row)
            if done % 20 == 1:
                print(told(row, done, len(missing), time.monotonic() - began), flush=True)
    print(f"{len(missing)} trainings in {time.monotonic() - began:.0f} s", flush=True)


def told(row: Row, done: int, total: int, seconds: float) -> str:
    what = (
        f"{row['config']} {row['proxy']} {row['layer']}, seed {row['seed']}: {row['accuracy']}, {row['seconds']:.1f} s"
    )
    return f"{seconds:5.0f} s {done:5} of {total}: {what}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=Path, required=True)
    parser.add_argument("--export", metavar="RUN", help="write the layers, and train nothing")
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--baseline", action="append", default=[])
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--batch-size", type=int, action="append", default=[])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=7 * 86400.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.export:
        layers = layers_of(arguments.export, arguments.top, arguments.baseline)
        write(arguments.layers, json.dumps(layers, indent=1) + "\n")
        return
    if not arguments.config or not arguments.out:
        parser.error("expected --export, or --config and --out")
    device = machine.chosen(arguments.device)
    given = [f"workers.device={device}", *arguments.set]
    sizes = [[f"recipe.batch_size={size}"] for size in arguments.batch_size] or [[]]
    configs = [load_config(path, [*given, *size]) for path in arguments.config for size in sizes]
    wanted = trainings(json.loads(arguments.layers.read_text()), configs, arguments.seeds)
    rows = served(validation_file(arguments.out).rows, wanted)
    missing = [each for each in wanted if each not in rows]
    print(f"{described()}; {len(missing)} of {len(wanted)} trainings to do", flush=True)
    if missing:
        run(missing, device, arguments.processes, arguments.seconds, arguments.out)


if __name__ == "__main__":
    in_one_line(main)
