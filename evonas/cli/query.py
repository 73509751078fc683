"""evonas top, show: the layers of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

import evonas
from evonas.cli.formats import formats, print_form
from evonas.cli.layers import gate_table, layer_table, section_table, seeds_of, seeds_text, spread_text, units_text
from evonas.cli.options import BIRTH, PICTURE, RUN
from evonas.cli.tables import say, terminal
from evonas.search_space.errors import InputError
from evonas.search_space.wording import counted, counted_pairs
from evonas.units import Unit, Units
from evonas.workers.outcome import DIVERGED, Crash, Fitness, Outcome, Rejection

if TYPE_CHECKING:
    from evonas.run import Run
    from evonas.search_space.graph import Graph
    from evonas.store.records import Record
    from evonas.views import LayerRow


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("-n", type=int, help="How many [10; with --front all].")
@click.option("--by", metavar="PROXY", help="Rank by the figure on one proxy.")
@click.option("--after", metavar="BIRTH", type=int, help="Start after this birth: the next page.")
@click.option("--front", is_flag=True, help="The Pareto front: layers that no other one dominates.")
@click.option("--all", "every", is_flag=True, help="List every member of a family, not only the best.")
@formats
def top(
    runs: tuple[str, ...], n: int | None, by: str | None, after: int | None, front: bool, every: bool, form: str | None
) -> None:
    """List the best layers of RUN: first those retrained with fresh seeds, then those that the search measured with
    several seeds, then the others. Several runs are listed in one table, with what differs between their configs.

    Layers are ranked by accuracy, or bits per byte, beside BN-ReLU's with the same seeds, mean over proxies. Where a
    search's objective is the loss, layers that were not retrained are ranked by it. Layers that differ only by a scale
    and a constant, which the affine absorbs, are a family; the best of each family is listed, and of layers that
    trained alike, bit for bit, the first. The number of seeds stands in parentheses, after the standard deviation over
    them.

    \b
    Example: evonas top results/quickstart-000 -n 5 --by resnet
             evonas top results/quickstart-000 results/quickstart-001
    """
    from evonas.listing import candidate_json
    from evonas.run import LISTED_MAX, open_run

    if front and (by is not None or after is not None):
        raise InputError("--front: takes neither --by nor --after")
    if len(runs) > 1:
        for option, given in (("--front", front), ("--after", after is not None), ("--all", every)):
            if given:
                raise InputError(f"{option}: takes one run")
        _compare(runs, 10 if n is None else n, by, form)
        return
    opened = open_run(runs[0])
    records = (
        opened.front(LISTED_MAX if n is None else n)
        if front
        else opened.top(10 if n is None else n, by, after=after, every=every)
    )
    if form:
        deviations = {proxy: {"deviation": d, "seeds": seeds} for proxy, (d, seeds) in opened.spread().items()}
        noise = opened.seed_noise()
        answer = {
            "baseline": opened.baseline() or None,
            "baseline_spread": deviations,
            "seed_noise": None if noise is None else {"deviation": noise[0], "layers": noise[1]},
            "top": [candidate_json(record, opened.config.units) for record in records],
            **opened.config.units.as_json(),
        }
        print_form(form, answer, records, opened.rows(records), opened.config.units)
        return
    none = "was trained to the full budget." if opened.finished else "has been trained to the full budget yet."
    print_layers(opened, records, f"No candidate {none}" if after is None else f"No layer follows birth {after}.")


def print_layers(run: "Run", records: "Sequence[Record]", none: str) -> None:
    """The best of a run as a table, with what its figures are worth; `none` where there is no layer."""
    from evonas.views import lengths

    rows, spread, noise = run.rows(records), run.spread(), run.seed_noise()
    console = terminal()
    console.print(layer_table(rows, list(run.config.proxies)))
    if not records:
        say(console, none)
    notes = [units_text(rows), seeds_text(rows, noise)]
    if run.config.judged_by == "loss" and any(row.birth and not row.is_fresh for row in rows):
        notes.append("In the search layers are ranked by the training loss.")
    if any(row.own and (row.is_fresh or row.is_repeated) for row in rows):
        notes.append("Objectives of your own are those of a layer's first training.")
    notes.append(lengths(run.config))
    if spread:
        notes.append(f"Noise: {spread_text(spread, run.config.baseline)}.")
    if any(notes):
        console.print()
    for note in filter(None, notes):
        say(console, note)


def _compare(runs: "Sequence[str]", n: int, by: str | None, form: str | None) -> None:
    compared = evonas.compare(runs, n, by)
    if form:
        print_form(form, compared.as_json(), compared.records, compared.rows, compared.units)
        return
    console = terminal()
    console.print(layer_table(compared.rows, compared.proxies))
    if not compared.records:
        say(console, "No candidate has been trained to the full budget yet.")
    console.print()
    for note in filter(None, [compared.text, units_text(compared.rows), seeds_text(compared.rows, None)]):
        say(console, note)
    say(console, "\nThe configs differ in:" if compared.differences else "\nThe configs do not differ.")
    for line in compared.lines():
        say(console, f"  {line}", hang=6)


@click.command()
@RUN
@BIRTH
@PICTURE
@formats
def show(run: str, birth: int, picture: Path | None, form: str | None) -> None:
    """Show the candidate with number BIRTH of RUN.

    Printed are formula, LaTeX, genotype, outcome, the measurements of every gate, parent and seconds. --picture draws
    the graph.

    \b
    Example: evonas show results/quickstart-000 17 --picture layer.svg
    """
    from evonas.known_layers import remark
    from evonas.layers.fragility import fragility
    from evonas.listing import whole_json
    from evonas.report.card_page import validations as validation_section
    from evonas.report.picture import draw
    from evonas.run import open_run
    from evonas.search_space.latex import latex

    opened = open_run(run)
    record = opened.candidate(birth)
    evaluation = opened.evaluation(birth)
    graph = opened.graph(birth)
    if picture:
        draw(graph, picture)
    validations = opened.validations(birth)
    if form:
        print_form(form, whole_json(opened, birth), [record], opened.rows([record]), opened.config.units)
        return
    console = terminal()
    units = opened.config.units
    say(console, f"birth {birth} of {opened.name}: {outcome_text(record.outcome, units)}", style="bold")
    origin = f"{record.operator} of birth {record.parent}" if record.parent else record.operator
    origin += f", with a part of birth {record.second_parent}" if record.second_parent else ""
    if record.predicted is not None:
        of = "not ranked" if record.pool is None else f"the first of {counted(record.pool, 'child', 'children')}"
        predicted = units.mean if units.mean is Unit.BITS else Unit.FITNESS
        origin += f", {of} (predicted {predicted} {units.mean.read(record.predicted):.3f})"
    equal = f", the same function as birth {record.equal_to}, whose outcome it inherits" if record.equal_to else ""
    equal = "" if record.operator == "again" else equal
    say(console, f"{origin}, proposed after {counted(record.seen, 'outcome')}{equal}")
    if repeated := remark(record.same_as, record.affine_of):
        say(console, f"not new: {repeated}")
    batch = "depends on the batch" if record.batch_dependent else "does not depend on the batch"
    live = counted(record.live_nodes, "live node")
    say(console, f"{live}, {batch}; {record.seconds:.2f} s on {record.host or 'no worker yet'}")
    say(console, f"amplification: {amplification_text(record, graph)}")
    say(console, f"fragility: {fragility(graph):.3g}, the roundings of the output where each step is rounded once")
    if evaluation and evaluation.conditions:
        tries = f", attempt {evaluation.attempts}" * (evaluation.attempts > 1)
        say(console, f"{evaluation.conditions}; at most {evaluation.memory_mb:.0f} MB{tries}")
    if isinstance(record.outcome, Fitness) and record.outcome.saved_mb:
        outcome = record.outcome
        costs = ", ".join(
            f"{p} {1000 * outcome.step_seconds[p]:.1f} ms and {mb:.1f} MB" for p, mb in outcome.saved_mb.items()
        )
        say(console, f"a training step, with what it saves for its backward pass: {costs}")
    for name, value in record.own_objectives.items():
        say(console, f"{name}: {value:.6g}, which the search maximised")
    for row in opened.candidate_rows([replace(record, retrained=None)] if record.in_search else []):
        say(console, f"{units.text} {_figures(row)}, {counted_pairs(row.paired, row.seeds or 0, 'seed')}")
    for row in opened.candidate_rows([record] if record.retrained else []):
        say(console, f"retrained with {seeds_of(row)}: {_figures(row)}")
    console.print("\nformula", style="bold")
    console.print(indent(record.formula), soft_wrap=True)
    console.print("\nlatex", style="bold")
    console.print(indent(latex(graph)), soft_wrap=True)
    console.print("\ngenotype", style="bold")
    console.print(indent(record.graph), soft_wrap=True)
    if evaluation and evaluation.measurements:
        console.print()
        console.print(gate_table(evaluation.measurements, units))
    if validations:
        what = " and ".join(dict.fromkeys(each.unit for each in validations))
        say(console, f"\nTest {what} where it was not searched, and differences with the same seeds\n")
        console.print(section_table(validation_section(validations)))
    if picture:
        console.print(f"\nWrote {picture}.", soft_wrap=True)


def _figures(row: "LayerRow") -> str:
    scores = ", ".join(f"{proxy} {row.figure(proxy)}" for proxy in row.accuracy)
    return f"{scores}; {row.against}"


def amplification_text(record: "Record", graph: "Graph") -> str:
    from evonas.search_space.analysis import depends_on_x

    if not depends_on_x(graph):
        return "none, for the output does not depend on x"
    amplifications = {
        "at one position a channel": record.amplification,
        "of constant input": record.amplification_constant,
        "of one sample": record.amplification_sample,
    }
    return ", ".join(f"{value:.3g} {where}" for where, value in amplifications.items() if value is not None)


def outcome_text(outcome: Outcome | None, units: Units) -> str:
    from evonas.listing import measured_texts

    match outcome:
        case None:
            return "pending"
        case Fitness():
            return "trained to the full budget"
        case Rejection(gate, proxy, _, _, step) if gate == DIVERGED:
            return f"rejected: the training on {proxy} diverged within {counted(step, 'step')}"
        case Rejection(gate, proxy, value, threshold, step):
            where = f" on {proxy}" if proxy else ""
            after = f" at step {step}" if step else ""
            measured, least = measured_texts(gate, proxy, value, threshold, units)
            return f"rejected by {gate}{where}{after}: measured {measured}, threshold {least}"
        case Crash(kind, message):
            return f"crashed ({kind}): {message}"


def indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
