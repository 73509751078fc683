"""evonas status, top, show, dump, export: answers from the database alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from evonas.cli.options import BIRTH, JSON, PICTURE, RUN
from evonas.cli.tables import duration, one_line, terminal
from evonas.search_space.errors import InputError
from evonas.workers.outcome import Crash, CrashKind, Fitness, Outcome, Rejection

if TYPE_CHECKING:
    from evonas.store.queries import Reader
    from evonas.store.records import Record


@click.command()
@RUN
@JSON
def status(run: str, as_json: bool) -> None:
    """Counts by state and gate, the pace and the time left of RUN: a folder, a .db file, or URL#run.

    \b
    Example: evonas status results/quickstart-000
    """
    from evonas.config import BASELINE
    from evonas.store.queries import Reader

    reader = Reader.open(run)
    config = reader.config
    states, gates = reader.counts()
    seconds, outcomes, full, since = reader.pace()
    births, decided = sum(states.values()), sum(states.values()) - states.get("pending", 0)
    rate = outcomes / seconds if seconds > 0 else None
    retrained, rerank = len(reader.evaluations("rerank")), config.evolution.rerank
    wanted = (rerank.top + len({BASELINE, *rerank.baselines})) * rerank.seeds
    to_come = births - decided if reader.evolved else config.evolution.births - decided
    left = None
    if rate is not None:
        left = to_come / rate
        if config.evolution.minutes is not None and not reader.evolved:
            left = min(left, max(0.0, 60 * config.evolution.minutes - since))
        left += max(0, wanted - retrained) * full
    if as_json:
        told = {
            "run": reader.name,
            "finished": reader.finished,
            "births": births,
            "births_wanted": config.evolution.births,
        }
        told |= {"by_state": states, "by_gate": gates, "retrained": retrained, "outcomes_per_second": rate}
        print_json(told | {"seconds_left_at_most": 0.0 if reader.finished else left})
        return
    console = terminal()
    console.print(f"{reader.name}: {births} of {config.evolution.births} births", style="bold")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), show_edge=False)
    for state, count in sorted(states.items()):
        table.add_row(state, str(count))
        if state in ("rejected", "crashed"):
            names = [gate.gate for gate in config.gates]
            kinds = {name for name in gates if name in list(CrashKind)}
            mine = [g for g in gates if (g in kinds) == (state == "crashed")]
            for gate in sorted(mine, key=lambda g: (names.index(g) if g in names else len(names), g)):
                table.add_row(f"  by {gate}", str(gates[gate]))
    if retrained:
        table.add_row("retrained", f"{retrained} evaluations")
    console.print(table)
    if reader.finished:
        console.print("finished")
    elif rate is None or left is None:
        console.print("no outcome yet since the last start")
    else:
        console.print(f"{rate:.2f} outcomes a second; at most about {duration(left)} left")


@click.command()
@RUN
@click.option("-n", type=click.IntRange(1, 1_000_000), help="How many [10; of the front all].")
@click.option("--by", metavar="PROXY", help="Rank by the accuracy on one proxy.")
@click.option("--after", metavar="BIRTH", type=int, help="Those that follow this birth: the next page.")
@click.option("--front", is_flag=True, help="Those that no other one beats in every objective.")
@JSON
def top(run: str, n: int | None, by: str | None, after: int | None, front: bool, as_json: bool) -> None:
    """The best survivors of RUN, with the search's one seed.

    Ranked by the mean over proxies of accuracy minus BN-ReLU's. Of equal candidates only the first is listed.

    \b
    Example: evonas top results/quickstart-000 -n 5 --by resnet
    """
    from evonas.config import BASELINE
    from evonas.store.queries import Reader

    if front and (by is not None or after is not None):
        raise InputError("--front: it is listed by the mean; without --by and --after")
    reader = Reader.open(run)
    records, spread = reader.front()[:n] if front else reader.top(n or 10, by, after), reader.spread()
    if as_json:
        accuracies = [each.accuracy for each in _baselines(reader)]
        noise = {proxy: {"deviation": deviation, "seeds": seeds} for proxy, (deviation, seeds) in spread.items()}
        told = {"baseline": accuracies[0] if accuracies else None, "baseline_spread": noise}
        print_json(told | {"top": [candidate_json(record) for record in records]})
        return
    console = terminal()
    console.print(survivors_table(reader, records))
    if not records:
        console.print("No candidate has been trained to the full budget yet." if not after else "No further one.")
    if spread:
        seeds = next(iter(spread.values()))[1]
        shown = ", ".join(f"{proxy} ±{deviation:.3f}" for proxy, (deviation, _) in spread.items())
        console.print(f"\nNoise: {BASELINE} alone spreads over {seeds} seeds by {shown}", soft_wrap=True)


def _baselines(reader: "Reader") -> list[Fitness]:
    outcomes = [each.evaluation.outcome for each in reader.evaluations("baseline")]
    return [each for each in outcomes if isinstance(each, Fitness)]


def survivors_table(reader: "Reader", records: "Sequence[Record]") -> Table:
    """BN-ReLU, then candidates, trained or not."""
    from evonas.config import BASELINE

    proxies = list(reader.config.proxies)
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("birth", justify="right")
    for proxy in proxies:
        table.add_column(proxy, justify="right")
    table.add_column(f"to {BASELINE}", justify="right")
    table.add_column("parent", justify="right")
    table.add_column("formula", overflow="fold")
    for each in _baselines(reader):
        table.add_row("", *(f"{each.accuracy[p]:.3f}" for p in proxies), "", "", BASELINE, style="dim")
    for record in records:
        scores = [f"{record.accuracy[p]:.3f}" if p in record.accuracy else "-" for p in proxies]
        difference = "" if record.advantage is None else f"{record.advantage * 100:+.1f}"
        parent = str(record.parent or record.operator)
        table.add_row(str(record.birth), *scores, difference, parent, one_line(record.formula))
    return table


@click.command()
@RUN
@BIRTH
@PICTURE
@JSON
def show(run: str, birth: int, picture: Path | None, as_json: bool) -> None:
    """The candidate number BIRTH of RUN, with all that is known.

    Formula, LaTeX, genotype, outcome, what every gate measured, parent, seconds; and a picture of its graph.

    \b
    Example: evonas show results/quickstart-000 17 --picture layer.svg
    """
    from evonas.config import BASELINE
    from evonas.report.picture import draw
    from evonas.search_space.graph import Graph
    from evonas.search_space.latex import latex
    from evonas.store.queries import Reader
    from evonas.store.records import columns

    reader = Reader.open(run)
    record = reader.candidate(birth)
    evaluation = reader.evaluation_of(birth)
    graph = Graph.parse(record.graph)
    if picture:
        draw(graph, picture)
    if as_json:
        told = candidate_json(record) | {"latex": latex(graph)}
        if evaluation is not None:
            told["measurements"] = [columns(each) for each in evaluation.measurements]
            told["points"] = [columns(each) for each in evaluation.points]
            told |= {"memory_mb": evaluation.memory_mb, "conditions": evaluation.conditions}
            told["attempts"] = evaluation.attempts
            if isinstance(evaluation.outcome, Fitness):
                told |= {"step_seconds": evaluation.outcome.step_seconds, "saved_mb": evaluation.outcome.saved_mb}
        print_json(told)
        return
    console = terminal()
    console.print(f"birth {birth} of {reader.name}: {outcome_text(record.outcome)}", soft_wrap=True, style="bold")
    origin = f"mutation of birth {record.parent}" if record.parent else record.operator
    equal = f", the same function as birth {record.equal_to}, whose outcome it inherits" if record.equal_to else ""
    console.print(f"{origin}, proposed after {record.seen} outcomes{equal}")
    batch = "depends on the batch" if record.batch_dependent else "does not depend on the batch"
    console.print(
        f"{record.live_nodes} live nodes, {batch}; {record.seconds:.2f} s on {record.host or 'no worker yet'}"
    )
    if evaluation and evaluation.conditions:
        tries = f", attempt {evaluation.attempts}" * (evaluation.attempts > 1)
        console.print(f"{evaluation.conditions}; at most {evaluation.memory_mb:.0f} MB{tries}", soft_wrap=True)
    if isinstance(record.outcome, Fitness) and record.outcome.saved_mb:
        outcome = record.outcome
        costs = ", ".join(
            f"{p} {1000 * outcome.step_seconds[p]:.1f} ms and {mb:.1f} MB" for p, mb in outcome.saved_mb.items()
        )
        console.print(f"a training step and what it keeps for its backward: {costs}", soft_wrap=True)
    if record.advantage is not None:
        scores = ", ".join(f"{p} {a:.3f}" for p, a in record.accuracy.items())
        console.print(f"accuracy {scores}; {record.advantage * 100:+.1f} points against {BASELINE}, one seed")
    console.print("\nformula", style="bold")
    console.print(indent(record.formula), soft_wrap=True)
    console.print("\nlatex", style="bold")
    console.print(indent(latex(graph)), soft_wrap=True)
    console.print("\ngenotype", style="bold")
    console.print(indent(record.graph), soft_wrap=True)
    if evaluation and evaluation.measurements:
        table = Table(box=None, padding=(0, 1, 0, 1), show_edge=False)
        for column in ("gate", "proxy", "measured", "threshold", "step", "passed", "seconds"):
            table.add_column(column, justify="left" if column in ("gate", "proxy", "passed") else "right")
        for m in evaluation.measurements:
            values = (f"{m.value:.4g}", f"{m.threshold:.4g}", str(m.step))
            table.add_row(m.gate, m.proxy or "-", *values, "yes" if m.passed else "no", f"{m.seconds:.3f}")
        console.print("\ngates", style="bold")
        console.print(table)
    if picture:
        console.print(f"\nWrote {picture}.", soft_wrap=True)


@click.command()
@RUN
@click.option("--logical", is_flag=True, help="Without versions, times, hosts, memory, epochs and events.")
def dump(run: str, logical: bool) -> None:
    """All records as JSON, one a line. Two runs whose logical dumps are equal are the same run.

    \b
    Example: evonas dump results/a --logical > a; evonas dump results/b --logical | diff a -
    """
    from evonas.store.queries import Reader
    from evonas.store.records import jsonable

    for record in Reader.open(run).dump(logical_only=logical):
        print(json.dumps(jsonable(record)))


@click.command()
@RUN
@BIRTH
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The Python file to write.")
def export(run: str, birth: int, output: Path) -> None:
    """Write a layer as a Python file.

    It imports torch alone and defines EvolvedLayer(num_features).

    \b
    Example: evonas export results/quickstart-000 17 -o layer.py
    """
    from evonas.run import open_run
    from evonas.store.queries import Reader

    reader = Reader.open(run)
    reader.candidate(birth)
    try:
        open_run(run).export(birth, output)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from None
    print(f"Wrote {output}: class EvolvedLayer(num_features), torch alone.")


def outcome_text(outcome: Outcome | None) -> str:
    match outcome:
        case None:
            return "pending"
        case Fitness():
            return "trained to the full budget"
        case Rejection("diverged", proxy, _, _, step):
            return f"rejected: the training on {proxy} diverged within {step} steps"
        case Rejection(gate, proxy, value, threshold, step):
            where = f" on {proxy}" if proxy else ""
            after = f" at step {step}" if step else ""
            return f"rejected by {gate}{where}{after}: measured {value:.4g}, threshold {threshold:.4g}"
        case Crash(kind, message):
            return f"crashed ({kind}): {message}"


def candidate_json(record: "Record") -> dict[str, Any]:
    from evonas.store.records import columns

    told = columns(record)
    outcome = told.pop("outcome")
    told["verdict"] = type(outcome).__name__.lower() if outcome is not None else None
    if isinstance(outcome, Rejection | Crash):
        told["stopped_by"] = columns(outcome)
    return told


def print_json(value: Any) -> None:
    from evonas.store.records import jsonable

    print(json.dumps(jsonable(value), indent=2))


def indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
