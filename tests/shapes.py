"""The shapes in types, checked while tests run: `Float[Tensor, "n c h w"]` is a promise that calls must keep."""

import sys
from importlib import import_module
from types import ModuleType

from jaxtyping import install_import_hook

# One call is checked in about 20 us. Not here are modules that torch.compile traces, and the probe and the screening of
# each birth, which call many small functions: one test of each checks a copy.
CHECKED = (
    "evonas.surrogate",
    "evonas.workers.data",
    "evonas.workers.evaluation",
    "evonas.workers.gates.base",
    "evonas.workers.gates.fit",
    "evonas.workers.gates.stability",
    "evonas.workers.gradients",
    "evonas.workers.own_data",
    "evonas.workers.sources",
    "evonas.workers.step",
    "evonas.workers.task",
    "evonas.workers.text",
    "evonas.workers.training",
)
# beartype would draw the item of a list that it looks at from Python's global random numbers
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_random=False))"


def check() -> None:
    """From now on, in modules that are not imported yet."""
    install_import_hook(CHECKED, CHECKER)


def checked(name: str) -> ModuleType:
    """A second copy of a module, or of a package and its modules, that checks the shapes in its types."""
    parent, _, child = name.rpartition(".")
    original = import_module(name)
    originals = {each: sys.modules.pop(each) for each in [*sys.modules] if each == name or each.startswith(f"{name}.")}
    try:
        with install_import_hook(name, CHECKER):
            return import_module(name)
    finally:
        sys.modules.update(originals)
        setattr(sys.modules[parent], child, original)
