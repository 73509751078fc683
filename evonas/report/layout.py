"""Layout of a graph's picture: leaves on top, every wire downwards, none through another's box.

The method is Sugiyama's: rows, then an order within each row with few crossings, then places. A value that is used
several rows below keeps one lane in each row between; all its users share it, as a bus on a circuit diagram.
"""

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import NamedTuple

from evonas.search_space.graph import Graph
from evonas.search_space.primitives import PRIMITIVES

BOX_HEIGHT, LANE_WIDTH, GAP, ROW_GAP = 26.0, 6.0, 16.0, 28.0  # points
SWEEPS = 24  # over the order of the rows; the best order is kept
STEPS = 200  # of moving the places
PULL_TO_MIDDLE = 0.05  # relative to a neighbour's pull; keeps unconnected parts together

Slot = tuple[int, int]  # a value and a row: its box in its own row, its lane in those below
Point = tuple[float, float]
Rows = list[list[Slot]]


class Link(NamedTuple):
    """A connection of slots in neighbouring rows."""

    upper: Slot
    lower: Slot
    position: int = 0  # input number of the lower slot
    ordered: bool = False  # whether the lower slot distinguishes its inputs

    @property
    def within_lane(self) -> bool:
        return self.upper[0] == self.lower[0]


@dataclass(frozen=True, slots=True)
class Box:
    """Centre and size in points; y grows downwards."""

    x: float
    y: float
    width: float
    height: float = BOX_HEIGHT

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire from a value to input number `position` of a node. It moves sideways only between two rows."""

    source: int
    target: int
    position: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes by value, and the wires between them; everything lies within (0, 0) and (width, height)."""

    boxes: Mapping[int, Box]
    wires: tuple[Wire, ...]
    width: float
    height: float


def layout(graph: Graph, widths: Mapping[int, float]) -> Layout:
    """Place the values in `widths`, a width in points for each."""
    row_of = _rows(graph, sorted(widths))
    rows, links = _slots(graph, row_of)
    rows = _ordered(rows, links)
    ports = _ports(rows, links, widths)
    slots = {slot: widths[slot[0]] if row_of[slot[0]] == slot[1] else LANE_WIDTH for row in rows for slot in row}
    x = _places(rows, links, ports, slots)
    y = _heights(rows, links, x)
    boxes = {value: Box(x[value, row], y[row], widths[value]) for value, row in row_of.items()}
    wires = tuple(_wires(graph, boxes, row_of, ports, x, y))
    return Layout(boxes, wires, max(x[slot] + width / 2 for slot, width in slots.items()), y[-1] + BOX_HEIGHT / 2)


# --------------------------------------------------------------------------- rows


def _rows(graph: Graph, values: Sequence[int]) -> dict[int, int]:
    """The row of each value: leaves in row 0, nodes below their inputs, the output last, lanes as short as possible."""
    inputs = {value: node.inputs for value in values if (node := graph.node(value))}
    users: dict[int, list[int]] = {value: [user for user in inputs if value in inputs[user]] for value in values}
    row = dict.fromkeys(values, 0)
    for value in inputs:
        row[value] = 1 + max(row[i] for i in inputs[value])
    if not users[graph.output] and graph.output in inputs:
        row[graph.output] = max(row.values())

    def lane(value: int) -> int:
        return max((row[user] for user in users[value]), default=row[value]) - row[value]

    for value in reversed(inputs):
        if users[value]:
            lengths: dict[int, int] = {}
            for at in range(row[value], min(row[user] for user in users[value])):
                row[value] = at
                lengths[at] = sum(lane(i) for i in {value, *inputs[value]})
            row[value] = min(lengths, key=lambda at: (lengths[at], -at))
    return row


def _slots(graph: Graph, row_of: Mapping[int, int]) -> tuple[Rows, list[Link]]:
    """The slots of each row, and the links between slots of neighbouring rows."""
    rows: list[dict[Slot, None]] = [{} for _ in range(1 + max(row_of.values()))]
    links: dict[Link, None] = {}
    for value, row in row_of.items():
        rows[row][value, row] = None
    for value, row in row_of.items():
        node = graph.node(value)
        for position, source in enumerate(node.inputs if node else ()):
            for at in range(row_of[source] + 1, row):
                rows[at][source, at] = None
                links[Link((source, at - 1), (source, at))] = None
            ordered = node is not None and not PRIMITIVES[node.op].commutative
            links[Link((source, row - 1), (value, row), position, ordered)] = None
    return [list(row) for row in rows], list(links)


# --------------------------------------------------------------------------- order within a row


def _ordered(rows: Rows, links: Sequence[Link]) -> Rows:
    """Reorder rows in sweeps down and up: move slots to the middle of their neighbours, then swap where that helps."""
    above: dict[Slot, list[Slot]] = {slot: [] for row in rows for slot in row}
    below: dict[Slot, list[tuple[Slot, float]]] = {slot: [] for row in rows for slot in row}
    for link in links:
        above[link.lower].append(link.upper)
        below[link.upper].append((link.lower, link.position / 2 if link.ordered else 0.0))

    def crossings(upper: Sequence[Slot], lower: Sequence[Slot]) -> int:
        place = {slot: i for i, slot in enumerate(lower)}
        passed: list[float] = []
        count = 0
        for slot in upper:
            ends = [place[end] + port for end, port in below[slot]]
            count += sum(len(passed) - bisect_right(passed, end) for end in ends)
            for end in ends:
                insort(passed, end)
        return count

    def swap_neighbours(order: Rows) -> None:
        for i, row in enumerate(order):
            upper = {slot: k for k, slot in enumerate(order[i - 1])} if i else {}
            lower = {slot: k for k, slot in enumerate(order[i + 1])} if i + 1 < len(order) else {}
            ups = {slot: [upper[end] for end in above[slot]] for slot in row}
            downs = {slot: [lower[end] for end, _ in below[slot]] for slot in row}
            for k in range(len(row) - 1):
                left, right = row[k], row[k + 1]
                pairs = [(a, b) for ends in (ups, downs) for a in ends[left] for b in ends[right]]
                if sum((a > b) - (a < b) for a, b in pairs) > 0:
                    row[k], row[k + 1] = right, left

    best, least = rows, float("inf")
    order = [list(row) for row in rows]
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for i in range(1, len(order)) if down else range(len(order) - 2, -1, -1):
            place = {slot: k for k, slot in enumerate(order[i - 1 if down else i + 1])}
            centres = {slot: float(k) for k, slot in enumerate(order[i])}
            for slot in order[i]:
                ends = [place[e] for e in above[slot]] if down else [place[e] + port for e, port in below[slot]]
                if ends:
                    centres[slot] = sum(ends) / len(ends)
            order[i].sort(key=centres.__getitem__)
        swap_neighbours(order)
        count = sum(crossings(a, b) for a, b in pairwise(order))
        if count < least:
            best, least = [list(row) for row in order], count
    return best


def _ports(rows: Rows, links: Sequence[Link], widths: Mapping[int, float]) -> dict[tuple[int, int], float]:
    """The offset from a box's middle at which each input enters; commutative inputs in the order of their sources."""
    place = {slot: k for row in rows for k, slot in enumerate(row)}
    inputs: dict[int, list[Link]] = {}
    for link in links:
        if not link.within_lane:
            inputs.setdefault(link.lower[0], []).append(link)
    ports: dict[tuple[int, int], float] = {}
    for value, mine in inputs.items():
        mine.sort(key=lambda link: (0 if link.ordered else place[link.upper], link.position))
        for k, link in enumerate(mine):
            ports[value, link.position] = widths[value] * ((k + 1) / (len(mine) + 1) - 0.5)
    return ports


# --------------------------------------------------------------------------- places


def _places(
    rows: Rows, links: Sequence[Link], ports: Mapping[tuple[int, int], float], width: Mapping[Slot, float]
) -> dict[Slot, float]:
    """x of each slot: near its neighbours above and below, in the given order, at least a gap apart.

    Lanes, and chains of boxes with one input and one user, are blocks that stand straight.
    """
    block = _blocks(rows, links)
    pulls: dict[Slot, list[tuple[Slot, float]]] = {slot: [] for slot in width}
    for link in links:
        if block[link.upper] != block[link.lower]:
            port = 0.0 if link.within_lane else ports[link.lower[0], link.position]
            pulls[block[link.upper]].append((block[link.lower], port))
            pulls[block[link.lower]].append((block[link.upper], -port))
    gaps: dict[tuple[Slot, Slot], float] = {}  # between the middles of neighbouring blocks
    for row in rows:
        for a, b in pairwise(row):
            pair = block[a], block[b]
            gaps[pair] = max(gaps.get(pair, 0.0), (width[a] + width[b]) / 2 + GAP)
    lefts: dict[Slot, list[tuple[Slot, float]]] = {slot: [] for slot in block.values()}
    rights: dict[Slot, list[tuple[Slot, float]]] = {slot: [] for slot in block.values()}
    for (a, b), gap in gaps.items():
        lefts[b].append((a, gap))
        rights[a].append((b, gap))
    blocks = list(TopologicalSorter({b: [a for a, _ in each] for b, each in lefts.items()}).static_order())

    def settled(wishes: Mapping[Slot, float]) -> dict[Slot, float]:
        """The mean of pushing everything right and pushing everything left; both keep the gaps."""
        right: dict[Slot, float] = {}
        for each in blocks:
            right[each] = max([wishes[each], *(right[a] + gap for a, gap in lefts[each])])
        left: dict[Slot, float] = {}
        for each in reversed(blocks):
            left[each] = min([wishes[each], *(left[b] - gap for b, gap in rights[each])])
        return {each: (right[each] + left[each]) / 2 for each in blocks}

    def wish(each: Slot) -> float:
        return sum(x[end] + port for end, port in pulls[each]) / (len(pulls[each]) + PULL_TO_MIDDLE)

    x = settled(dict.fromkeys(blocks, 0.0))
    for _ in range(STEPS):
        x = settled({each: (x[each] + wish(each)) / 2 for each in blocks})
    for _ in range(STEPS):
        for each in blocks:
            low = max((x[a] + gap for a, gap in lefts[each]), default=-float("inf"))
            high = min((x[b] - gap for b, gap in rights[each]), default=float("inf"))
            x[each] = min(max(wish(each), low), high)
    start = min(x[block[slot]] - width[slot] / 2 for slot in width)
    return {slot: x[block[slot]] - start for slot in width}


def _blocks(rows: Rows, links: Sequence[Link]) -> dict[Slot, Slot]:
    """The block of each slot, named by its topmost slot. No two blocks cross."""
    place = {slot: k for row in rows for k, slot in enumerate(row)}
    above, below = Counter(link.lower for link in links), Counter(link.upper for link in links)
    lanes = {link.lower for link in links if link.within_lane}
    eligible = [link for link in links if link.within_lane and link.upper in lanes]
    eligible += [link for link in links if below[link.upper] == above[link.lower] == 1 and link not in eligible]
    kept: dict[int, list[Link]] = {}
    for link in eligible:
        mine = kept.setdefault(link.lower[1], [])
        here = (place[link.upper], place[link.lower])
        if all((place[a.upper] - here[0]) * (place[a.lower] - here[1]) > 0 for a in mine):
            mine.append(link)
    block = {slot: slot for slot in place}
    for row in sorted(kept):
        for link in kept[row]:
            block[link.lower] = block[link.upper]
    return block


def _heights(rows: Rows, links: Sequence[Link], x: Mapping[Slot, float]) -> list[float]:
    """The y of each row's middle. Rows are further apart where wires run far sideways."""
    y = [BOX_HEIGHT / 2]
    for row in range(len(rows) - 1):
        far = max((abs(x[link.upper] - x[link.lower]) for link in links if link.upper[1] == row), default=0.0)
        y.append(y[-1] + BOX_HEIGHT + ROW_GAP + min(far / 8, ROW_GAP))
    return y


def _wires(
    graph: Graph,
    boxes: Mapping[int, Box],
    row_of: Mapping[int, int],
    ports: Mapping[tuple[int, int], float],
    x: Mapping[Slot, float],
    y: Sequence[float],
) -> Iterator[Wire]:
    for target, box in boxes.items():
        node = graph.node(target)
        for position, source in enumerate(node.inputs if node else ()):
            points = [(boxes[source].x, boxes[source].bottom)]
            for row in range(row_of[source] + 1, row_of[target]):
                lane = x[source, row]
                points += [(lane, y[row] - BOX_HEIGHT / 2), (lane, y[row] + BOX_HEIGHT / 2)]
            yield Wire(source, target, position, (*points, (box.x + ports[target, position], box.top)))
