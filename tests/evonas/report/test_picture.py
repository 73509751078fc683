"""Pictures of graphs: everything is there, once, in its place, and nothing lies over anything else."""

import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evonas.report.layout import Box, Layout, Point
from evonas.report.picture import INDEX_SETS, SYMBOLS, draw, label, picture_layout, shown_values
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.space import Space
from tests.conftest import graphs
from tests.search_space.graphs import EVERY_OP, woven_graphs

KNOWN = sorted(LAYERS.graphs)
NOT_BOXES = {"output", "num", "den"}
SAMPLES = [k / 16 for k in range(17)]
SVG = "{http://www.w3.org/2000/svg}"

GRAPHS = graphs(EVERY_OP)
LARGE = woven_graphs(Space(nodes=60))


def texts(path: Path) -> list[str]:
    return ["".join(each.itertext()) for each in ET.parse(path).iter(f"{SVG}text")]


def texts_of(graph: Graph, folder: Path, *, whole: bool = False) -> list[str]:
    draw(graph, folder / "graph.svg", whole=whole)
    return texts(folder / "graph.svg")


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def drawn(wire: tuple[Point, ...]) -> Iterator[Point]:
    """Points on the curve that a wire is: between two of its points it leaves and arrives upright."""
    for (x0, y0), (x1, y1) in pairwise(wire):
        for t in SAMPLES:
            s = t * t * (3 - 2 * t)  # of a cubic whose control points lie half-way down, below and above its ends
            yield x0 + (x1 - x0) * s, y0 + (y1 - y0) * (1.5 * t * (1 - t) + t**3)


def inside(point: Point, box: Box, margin: float = 0.0) -> bool:
    return abs(point[0] - box.x) < box.width / 2 + margin and abs(point[1] - box.y) < box.height / 2 + margin


def check(graph: Graph, places: Layout) -> None:
    """The laws of a layout."""
    boxes = places.boxes
    assert set(boxes) == shown_values(graph)
    wanted = Counter((source, target) for target in boxes for source in (graph.node(target) or _LEAF).inputs)
    assert Counter((wire.source, wire.target) for wire in places.wires) == wanted
    for box in boxes.values():
        assert -1e-6 <= box.x - box.width / 2 <= box.x + box.width / 2 <= places.width + 1e-6
        assert -1e-6 <= box.top <= box.bottom <= places.height + 1e-6
    for a, b in combinations(boxes.values(), 2):
        assert abs(a.x - b.x) > (a.width + b.width) / 2 or abs(a.y - b.y) > (a.height + b.height) / 2
    for wire in places.wires:
        assert boxes[wire.source].bottom < boxes[wire.target].top
        for a, b in pairwise(wire.points):
            assert a[1] < b[1]
        others = [box for value, box in boxes.items() if value not in (wire.source, wire.target)]
        for point in drawn(wire.points):
            assert not any(inside(point, box, margin=2.0) for box in others)
            assert -1e-6 <= point[0] <= places.width + 1e-6
    top = min(box.y for box in boxes.values())
    assert all((box.y == top) == (value < len(graph.leaves)) for value, box in boxes.items())


class _LEAF:
    inputs: tuple[int, ...] = ()


# --------------------------------------------------------------------------- places


@pytest.mark.parametrize("name", KNOWN)
def test_known_layers_are_laid_out_by_the_laws_with_the_output_last(name: str) -> None:
    graph = LAYERS.graphs[name].canonical()
    places = picture_layout(graph)
    check(graph, places)
    assert places.boxes[graph.output].bottom == places.height


@given(GRAPHS | woven_graphs() | LARGE)
def test_any_graph_is_laid_out_by_the_laws(graph: Graph) -> None:
    check(graph, picture_layout(graph))
    check(graph.canonical(), picture_layout(graph.canonical()))


@pytest.mark.parametrize("name", ["EvoNorm-B0", "EvoNorm-S0", "BN-SiLU", "BN-ReLU"])
def test_no_wires_of_the_best_known_layers_cross_beyond_need(name: str) -> None:
    graph = LAYERS.graphs[name].canonical()
    wires, crossings = picture_layout(graph).wires, 0
    for a, b in combinations(wires, 2):
        if a.source == b.source:
            continue
        for (p, q), (r, s) in ((x, y) for x in pairwise(a.points) for y in pairwise(b.points)):
            same_rows = max(p[1], r[1]) < min(q[1], s[1])
            crossings += same_rows and (p[0] - r[0]) * (q[0] - s[0]) < 0
    assert crossings <= 1  # EvoNorm-B0 and BN-ReLU are planar only with a leaf below the top row


def test_a_division_has_its_numerator_on_the_left() -> None:
    for text in ("x / exp(y)", "exp(y) / x", "y / x", "x / v1"):
        graph = Graph.parse(text)
        wires = [wire for wire in picture_layout(graph).wires if wire.target == graph.output]
        numerator, denominator = sorted(wires, key=lambda wire: wire.position)
        assert numerator.points[-1][0] < denominator.points[-1][0]
        assert (graph.node(graph.output) or _LEAF).inputs == (numerator.source, denominator.source)


def test_a_wire_through_a_box_would_be_seen() -> None:
    assert any(inside(point, Box(5.0, 50.0, 20.0)) for point in drawn(((0.0, 0.0), (10.0, 100.0))))


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", KNOWN)
def test_an_svg_has_every_operation_and_each_leaf_once(name: str, tmp_path: Path) -> None:
    graph = LAYERS.graphs[name].canonical()
    found = Counter(texts_of(graph, tmp_path))
    labels = Counter(label(graph, value) for value in shown_values(graph))
    assert {text: found[text] for text in labels} == labels
    divisions = sum(node.op == "div" for node in graph.nodes)
    assert (found["num"], found["den"], found["output"]) == (divisions, divisions, 1)
    ids = [each.get("id") for each in ET.parse(tmp_path / "graph.svg").iter() if each.get("id")]
    assert all(ids.count(f"value-{value}") == 1 for value in shown_values(graph))


def test_the_title_is_the_formula(tmp_path: Path) -> None:
    for graph in LAYERS.graphs.values():
        shown = "".join("".join(texts_of(graph, tmp_path)).replace(";", "").split())
        assert "".join(graph.formula.split()) in shown


def test_a_very_long_title_is_shortened(tmp_path: Path) -> None:
    graph = Graph.parse("".join(f"a{i} = {'x' if not i else f'a{i - 1} * a{i - 1}'}\n" for i in range(30)) + "a29")
    assert "..." in texts_of(graph, tmp_path)


def test_the_legend_names_the_index_sets_that_occur(tmp_path: Path) -> None:
    found = texts_of(Graph.parse("std_hw(x) / mean_c(0.5 * x)"), tmp_path)
    assert {"hw instance", "c position", "input", "number"} <= set(found)
    assert not {"bhw batch", "chw layer", "ghw group", "learned vector", "learned scalar"} & set(found)


def test_a_picture_is_of_the_live_part_unless_the_whole_is_asked_for(tmp_path: Path) -> None:
    graph = Graph.parse("dead = tanh(y)\nx * v1")
    assert not {"tanh", "y"} & set(texts_of(graph, tmp_path))
    assert {"tanh", "y", "faded: not used"} <= set(texts_of(graph, tmp_path, whole=True))


def test_a_graph_of_a_leaf_alone_is_drawn(tmp_path: Path) -> None:
    assert Counter(texts_of(Graph.parse("x"), tmp_path)) == {"x": 2, "input": 1, "output": 1}  # title and box


def test_names_in_any_letters_are_drawn(tmp_path: Path) -> None:
    assert "尺" in texts_of(Graph.parse("尺 = vector(1)\n尺 * x"), tmp_path)
    draw(Graph.parse("尺 = vector(1)\n尺 * x"), tmp_path / "graph.png")


@pytest.mark.parametrize("name", ["EvoNorm-B0", "BN-SiLU", "DyT"])
def test_a_png_has_ink_and_the_colours_of_its_index_sets(name: str, tmp_path: Path) -> None:
    graph = LAYERS.graphs[name]
    draw(graph, tmp_path / "graph.png")
    image = np.asarray(Image.open(tmp_path / "graph.png").convert("RGB"))  # "h w c"
    assert min(image.shape[:2]) > 300
    assert (image[0] == 255).all()  # a white margin
    assert 0.005 < (image.mean(axis=2) < 128).mean() < 0.2
    reduced = {PRIMITIVES[node.op].reduces for node in graph.canonical().nodes}
    for index_set, (colour, _) in INDEX_SETS.items():
        assert (image == rgb(colour)).all(axis=2).any() == (index_set in reduced)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_equal_graphs_give_equal_bytes(suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    draw(Graph.parse("x / max(std_bhw(x), v1 * x + std_hw(x))"), first)
    draw(Graph.parse("d = tanh(x)\nx / max(std_hw(x) + x * v1, std_bhw(x))"), second)
    assert first.read_bytes() == second.read_bytes()


@given(GRAPHS | LARGE, st.booleans())
@settings(max_examples=settings.default.max_examples // 4)  # each takes a tenth of a second
def test_any_graph_draws(graph: Graph, whole: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = Counter(texts_of(graph, Path(folder), whole=whole))
        shown = graph if whole else graph.canonical()
        wanted = Counter(label(shown, value) for value in shown_values(shown) if shown.node(value))
        assert {text: found[text] for text in wanted} == wanted


@pytest.mark.parametrize(("name", "part"), [("a.gif", ".svg or .png"), ("a", ".svg"), ("none/a.svg", "no such folder")])
def test_a_path_that_is_no_picture_is_refused(tmp_path: Path, name: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        draw(Graph.parse("x"), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        draw(Graph.parse("x"), tmp_path / "a.svg")


# --------------------------------------------------------------------------- labels and colours


def test_every_primitive_has_a_label_of_its_own() -> None:
    graphs = [Graph.parse(f"{name}({', '.join('xy'[: row.arity])})") for name, row in PRIMITIVES.items()]
    labels = [label(graph, graph.output) for graph in graphs]
    assert len(set(labels)) == len(PRIMITIVES)
    assert not NOT_BOXES & set(labels)
    assert set(SYMBOLS) <= set(PRIMITIVES)


def test_every_index_set_has_a_colour_that_stays_apart_for_the_colour_blind() -> None:
    assert {row.reduces for row in PRIMITIVES.values() if row.reduces} == set(INDEX_SETS)
    # Dichromats' confusions in linear RGB, after Vienot, Brettel and Mollon, 1999 (remembered)
    views = {
        "trichromat": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "protanope": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deuteranope": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    for matrix in views.values():
        seen = []
        for colour, _ in INDEX_SETS.values():
            linear = (rgb(colour) / 255) ** 2.2
            seen.append((np.array(matrix) @ linear).clip(0, 1) ** (1 / 2.2))
        assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 0.15
    for colour, _ in INDEX_SETS.values():
        assert rgb(colour) @ [0.3, 0.6, 0.1] > 120  # under black text
