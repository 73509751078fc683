"""Uses a primitive `softplus` everywhere; run by test_one_row.py beside packages whose table has that row."""

import sys
from pathlib import Path
from random import Random

import torch
from torch.nn import functional

from evonas.layers.source import layer_source
from evonas.report.documents import primitives_page
from evonas.report.picture import draw
from evonas.search_space.fingerprint import probe
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex
from evonas.search_space.lowering import NormAct
from evonas.search_space.mutation import redraw
from evonas.search_space.sampling import random_graph
from evonas.search_space.space import PAPER_PRIMITIVES, Space
from evonas.space_config import SpaceConfig

folder = Path(sys.argv[1])
graph = Graph.parse("softplus(v1 * x) / std_hw(x)")
assert Graph.parse(str(graph)) == graph
assert graph.formula == "softplus(v1 * x) / std_hw(x)"

x = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0))
expected = functional.softplus(x) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
torch.testing.assert_close(NormAct(graph, 8)(x), expected)
assert probe(graph).fingerprint != probe(Graph.parse("x / std_hw(x)")).fingerprint

namespace: dict[str, type[torch.nn.Module]] = {}
exec(layer_source(graph), namespace)
torch.testing.assert_close(namespace["EvolvedLayer"](8)(x), expected)

assert "softplus" not in Space().ops  # the paper's space stays the paper's
for primitives in ("paper", PAPER_PRIMITIVES):
    assert SpaceConfig(primitives=primitives).unconstrained == Space()
space, rng = SpaceConfig(primitives=(*PAPER_PRIMITIVES, "softplus")).unconstrained, Random(0)
assert len(space.ops) == len(Space().ops) + 1
drawn = [random_graph(space, rng) for _ in range(300)]
assert any(node.op == "softplus" for each in drawn for node in each.nodes)
children = [redraw(Graph.parse("tanh(x)"), space, rng) for _ in range(300)]
assert any(node.op == "softplus" for each in children for node in each.nodes)

assert r"\zeta\left(v_1 \cdot x\right)" in latex(graph)
assert "| `softplus` | `softplus(a)` |" in primitives_page()
draw(graph, folder / "layer.svg")
assert "softplus" in (folder / "layer.svg").read_text(encoding="utf-8")
print("softplus is everywhere")
