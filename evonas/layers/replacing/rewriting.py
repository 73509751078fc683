"""Leave out activations that a module's own `forward` applies: functions, and modules that it calls elsewhere too."""

import dis
from collections.abc import Container, Iterable
from typing import Any

from torch import fx, nn

from evonas.layers.replacing.tracing import Call, own_calls, own_graph


class Unrewritable(Exception):
    """Why the forward of a module cannot be written anew."""


class Rewritten(nn.Module):
    """Base of a module whose forward was rewritten; the module is an instance of its own class still.

    skipped: the activations left out, numbered among those of the original forward. A copy is rewritten again by them.
    """

    skipped: tuple[int, ...] = ()

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        return (_blank, (type(self).__bases__[1],), *reduced[2:])

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        _rewrite(self, type(self).__bases__[1], self.skipped)


def _blank(original: Any) -> nn.Module:
    made = _subclass(original, {})
    blank: nn.Module = made.__new__(made)
    return blank


def _subclass(original: Any, members: dict[str, Any]) -> Any:
    names = {"__module__": original.__module__, "__doc__": original.__doc__}
    return type(original.__name__, (Rewritten, original), names | members)


def skip_activations(module: nn.Module, ordinals: set[int]) -> None:
    """Give a module, in place, a forward without some of the activations that it applies, counted from 0.

    Everything else of the module stays: its class' methods, attributes, children, state_dict and hooks.
    """
    if isinstance(module, fx.GraphModule):
        _erase(own_calls(module, module.graph), ordinals)
        module.recompile()
        return
    before = module.skipped if isinstance(module, Rewritten) else ()
    original = type(module).__bases__[1] if isinstance(module, Rewritten) else type(module)
    left = [n for n in range(len(before) + max(ordinals) + 1) if n not in before]
    _rewrite(module, original, tuple(sorted({*before, *(left[n] for n in ordinals)})))


def _rewrite(module: Any, original: Any, skipped: tuple[int, ...]) -> None:
    module.__class__ = original  # whose forward is traced
    graph = own_graph(module)
    _erase(own_calls(module, graph), skipped)
    forward: Any = type(fx.GraphModule(module, graph)).forward
    module.__class__ = _subclass(original, {"forward": forward})
    module.skipped = skipped


def _erase(calls: list[Call], ordinals: Iterable[int]) -> None:
    """Remove some of the activations among the calls of a graph."""
    activations = [call.node for call in calls if call.is_activation]
    for n in ordinals:
        node = activations[n]
        node.replace_all_uses_with(node.all_input_nodes[0])
        node.graph.erase_node(node)


def expect_rewritable(module: nn.Module, seen: list[str], constants: Container[str]) -> None:
    """Raises Unrewritable unless a forward alone, in either mode, makes the calls `seen` in the model's trace, and uses
    no argument that is a constant there."""
    code = getattr(type(module).forward, "__code__", None)
    if code is None or "forward" in vars(module):
        raise Unrewritable("its forward is no method of its class")
    if any(each.opname == "WITH_EXCEPT_START" for each in dis.get_instructions(code)):
        raise Unrewritable("its forward has a with block")  # which no trace has
    mode, codes = module.training, []
    try:
        for module.training in (True, False):
            graph = own_graph(module)
            codes.append(graph.python_code("self").src)
    except Exception as error:  # a forward that meets no tensor may raise anything
        raise Unrewritable(f"{type(error).__name__}: {error}".splitlines()[0]) from None
    finally:
        module.training = mode
    if codes[0] != codes[1]:
        raise Unrewritable("its forward differs between training and evaluation")
    used = {str(node.target).lstrip("*") for node in graph.nodes if node.op == "placeholder" and node.users}
    if [call.word for call in own_calls(module, graph)] != seen or any(name in constants for name in used):
        raise Unrewritable("its forward depends on its arguments")
