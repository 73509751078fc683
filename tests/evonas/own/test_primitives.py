"""Primitives of a user's own in a search, in a database, in an exported file, and where they are wrong."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import evonas
from evonas.config_file import load_config
from evonas.driver import search
from evonas.layers.verbatim import expect_torch_alone
from evonas.run import open_run
from evonas.search_space.errors import InputError
from evonas.search_space.latex import latex
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.space import Space
from evonas.workers.evaluation import evaluate
from evonas.workers.protocol import Job
from tests.evonas.own.own_cases import FILES, TINY, complaint, forget

OPS = """\
import torch
from evonas.search_space.primitives import Primitive

SCALE = 2.0


def half(a):
    return a / SCALE


def twist(a, b):
    return half(a) * torch.cos(b)


TWIST = Primitive("twist", 2, twist, r"{0} \\circlearrowleft {1}")
"""


def with_ops(folder: Path, *primitives: str) -> Path:
    """The page's search of the small network, with other primitives."""
    (folder / "my_ops.py").write_text(OPS)
    text = yaml.safe_load(FILES["own.yaml"])
    text["proxies"] = {"small": text["proxies"]["small"]}
    text["space"]["primitives"] = ["neg", "tanh", *primitives]
    text["objectives"] = ["accuracy"]
    (folder / "own.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    return folder / "own.yaml"


def test_a_primitive_is_searched_with_read_without_its_module_and_exported(folder: Path) -> None:
    path = with_ops(folder, "my_ops:TWIST")
    warm = ["evolution.warm_start=['twist(x, v1)', 'tanh(twist(v1, x))']", "evolution.random_share=0.0"]
    run = search(path, folder / "run", settings=[*TINY, *warm], progress=False)
    assert run.replay() == []
    assert run.candidate(1).formula == "twist(x, v1)"

    forget()
    with pytest.raises(InputError, match="unknown primitive 'twist'"):
        evonas.Graph.parse("twist(x, v1)")
    again = open_run(folder / "run")
    assert again.graph(2).formula == "tanh(twist(v1, x))"
    assert latex(again.graph(2)) == r"\tanh\left(v_1 \circlearrowleft x\right)"
    assert (
        {each.birth for each in again.find(uses="twist")} == {each.birth for each in run.find(uses="twist")} >= {1, 2}
    )
    assert [each.birth for each in again.lineage(1)] == [1]
    assert again.candidate(1) == run.candidate(1)
    assert "my_ops" not in sys.modules
    with pytest.raises(InputError, match="primitive twist is my_ops:TWIST, whose module was not run"):
        evonas.layer("twist(x, v1)", 4)(torch.ones(2, 4))

    x = torch.linspace(-3, 3, 24).view(2, 4, 3)
    expected = x / 2 * torch.cos(torch.ones(()))
    torch.testing.assert_close(evonas.layer(again.candidate(1), 4)(x), expected)  # which runs the module
    assert "my_ops" in sys.modules
    source = again.source(1)
    for line in ("SCALE = 2.0", "def half(a):", "def twist(a, b):", "    return half(a) * torch.cos(b)"):
        assert line in source.splitlines()
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    torch.testing.assert_close(namespace["EvolvedLayer"](4)(x), expected)

    forget()
    (folder / "my_ops.py").write_text(OPS.replace("2.0", "3.0"))
    with pytest.raises(InputError, match=r"plugins\.my_ops: the source in .* restore it, or begin a new run"):
        open_run(folder / "run").source(1)
    assert "my_ops" not in sys.modules  # the other source was not run
    (folder / "my_ops.py").unlink()
    with pytest.raises(InputError, match="no module 'my_ops' is installed or in"):
        open_run(folder / "run").source(1)


def test_a_job_with_a_primitive_travels(folder: Path) -> None:
    config = load_config(with_ops(folder, "my_ops:TWIST"), TINY)
    job = Job(graph="twist(x, v1)", protocol=config.protocol, seed=0)
    sent = pickle.dumps(job)
    here = evaluate(job).outcome
    forget()
    assert evaluate(pickle.loads(sent)).outcome == here


def test_a_space_does_not_depend_on_what_else_the_process_knows(folder: Path) -> None:
    text = OPS + "\n\ndef other(a):\n    return a * a\n"
    path = with_ops(folder, "my_ops:other", "my_ops:TWIST")
    (folder / "my_ops.py").write_text(text)
    ops = load_config(path).space.unconstrained.ops
    assert ops[-2:] == ("other", "twist")
    with_ops(folder, "my_ops:TWIST", "my_ops:other")
    (folder / "my_ops.py").write_text(text)
    assert load_config(path).space.unconstrained.ops == (*ops[:-2], "twist", "other")
    assert "twist" not in Space().ops


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("def f(a): return torch.abs(a)", None),
        ("f = Primitive('f', 1, torch.erf, '{0}', sign='out')", None),
        ("def f(a, b=2.0): return a * b", None),
        ("def f(a, b, c): return a", "expected an elementwise function of 1 or 2 tensors, got 3"),
        ("f = 3", "my_ops:f: expected a function or a Primitive, found int"),
        ("def tanh(a): return a\nf = tanh", "evonas has a primitive 'tanh'; choose another name"),
        ("def x(a): return a\nf = x", "'x' cannot be the name of a primitive; choose another"),
        ("def f(a): return a.mean()", "of (4, 8, 3, 5) it makes ()"),
        ("def f(a): return a - a.mean()", "a value depends on others than its own; aggregations are evonas' own"),
        ("def f(a): return a.double()", "of torch.float32 it makes torch.float64"),
        ("def f(a): return a.mul_(2)", "it changes its input"),
        ("def f(a): return a + torch.rand_like(a)", "two calls differ"),
        ("def f(a): return a.detach()", "it has no gradient"),
        ("def f(a): return 3", "expected a tensor, got int"),
        ("def f(a): return a.missing", "failed at {folder}/my_ops.py:4: AttributeError"),
        ("def g(a): return torch.exp(a)\nf = Primitive('f', 1, g, '{0}', sign='out')", "my_ops:f: sign does not hold"),
        ("def g(a): return a\nf = Primitive('f', 1, g, '{0}', nonnegative=True)", "nonnegative does not hold"),
        ("f = Primitive('f', 2, torch.sub, '{0}', commutative=True)", "commutative does not hold"),
        ("f = Primitive('f', 2, torch.add, '{0}', unit=1.0)", "unit does not hold"),
        ("f = Primitive('f', 2, torch.add, '{0}', idempotent=True)", "idempotent does not hold"),
        ("f = Primitive('f', 1, torch.erf, '{2}')", "latex '{2}' cannot be written"),
        ("f = lambda a: a", "my_ops:f: '<lambda>' cannot be the name of a primitive"),
        (
            "f = Primitive('f', 1, lambda a: a, '{0}')",
            "primitive f: expected a function that its module defines with def",
        ),
        ("import math\ndef f(a): return a * math.pi", "primitive f: 'f' uses 'math'; expected torch, Tensor, nn"),
        ("def mean(a): return a\ndef f(a): return mean(a)", "primitive f: 'mean' is the name of a function of evonas"),
    ],
)
def test_what_is_wrong_in_a_primitive_is_one_line(folder: Path, row: str, message: str | None) -> None:
    path = with_ops(folder, "my_ops:f")
    text = "import torch\nfrom evonas.search_space.primitives import Primitive\n\n"
    (folder / "my_ops.py").write_text(text + row)
    if message is None:
        config = load_config(path)
        expect_torch_alone("f", PRIMITIVES["f"].fn)
        assert config.space.unconstrained.ops[-1] == "f"
    else:
        assert message.replace("{folder}", str(folder)) in complaint(folder)


def test_one_process_has_one_primitive_of_a_name(folder: Path) -> None:
    path = with_ops(folder, "my_ops:TWIST")
    load_config(path)
    load_config(path)
    (folder / "my_ops.py").write_text(OPS.replace("2.0", "3.0"))
    with pytest.raises(InputError, match="this process has another 'twist', of my_ops:TWIST; start a new process"):
        load_config(path)
