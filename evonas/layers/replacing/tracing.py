"""A model's forward as graphs of torch.fx, in which norms and activations are single calls."""

import inspect
import warnings
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils._pytree import tree_leaves

from evonas.layers.whole_models import is_exported
from evonas.search_space.layer import Layer

ACTIVATIONS = frozenset(
    """celu elu gelu gelutanh hardmish hardshrink hardswish hardtanh leakyrelu mish prelu quickgelu relu relu6 rrelu
    selu silu softplus softshrink softsign swish tanh tanhshrink threshold""".split()  # noqa: SIM905 (easier to read)
)
GATES = frozenset({"sigmoid", "hardsigmoid", "logsigmoid", "softmax", "logsoftmax", "softmin", "glu"})  # of a product


_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalization layer, perhaps with its activation: of torch, timm, evonas, or one that has
    `Norm` in its class' name and holds nothing but an activation."""
    if isinstance(module, (*_NORMS, Layer)) or is_exported(module):
        return True
    if type(module).__module__.startswith("torch.nn.utils"):  # such as the spectral norm of a weight
        return False
    simple = all(is_activation(each) or is_passed_through(each) or is_dropout(each) for each in module.children())
    return "norm" in type(module).__name__.lower() and simple and not isinstance(module, nn.Sequential)


def is_activation(module: nn.Module) -> bool:
    return _plain(type(module).__name__) in ACTIVATIONS


def is_gate(module: nn.Module) -> bool:
    return _plain(type(module).__name__) in GATES


def is_passed_through(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) or (isinstance(module, nn.Sequential) and not len(module))


def is_dropout(module: nn.Module) -> bool:
    return type(module).__name__.lower().startswith("drop") and not any(module.children())


def _plain(name: str) -> str:
    return name.replace("_", "").lower().removesuffix("jit").removesuffix("me")  # timm's variants


@dataclass(frozen=True, eq=False)
class Call:
    """A call in a traced forward."""

    root: nn.Module
    path: str  # of the root in the model
    node: fx.Node

    @cached_property
    def module(self) -> nn.Module | None:
        return self.root.get_submodule(str(self.node.target)) if self.node.op == "call_module" else None

    @cached_property
    def _stack(self) -> list[tuple[str, str]]:
        stack = [(key, path) for key, (path, _) in self.node.meta.get("nn_module_stack", {}).items()]
        return [("", ""), *(stack[:-1] if self.node.op == "call_module" else stack)]

    @property
    def invocation(self) -> tuple[nn.Module, str]:
        """The call of the owner that this call belongs to."""
        return self.root, self._stack[-1][0]

    @property
    def owner(self) -> str:
        """The path of the module whose `forward` makes the call."""
        return joined(self.path, self._stack[-1][1])

    @property
    def name(self) -> str:
        """The path of its module, or its owner's with the name of a function."""
        if self.node.op == "call_module":
            return joined(self.path, str(self.node.target))
        return joined(self.owner, f"{self.word}()")

    @property
    def word(self) -> str:
        """The name of its class or function."""
        match self.node.op:
            case "call_module":
                return type(self.module).__name__
            case "call_function":
                return str(getattr(self.node.target, "__name__", self.node.target))
            case "call_method":
                return str(self.node.target)
            case "output":
                return "the output"
            case "get_attr":
                return str(self.node.target)
        return "the input"

    @property
    def is_activation(self) -> bool:
        if self.module is not None:
            return is_activation(self.module)
        return self.node.op in ("call_function", "call_method") and _plain(self.word) in ACTIVATIONS

    @property
    def is_dropout(self) -> bool:
        if self.module is not None:
            return is_dropout(self.module)
        return "dropout" in self.word

    @property
    def is_gate(self) -> bool:
        if self.module is not None:
            return is_gate(self.module)
        return self.node.op in ("call_function", "call_method") and _plain(self.word) in GATES

    def of(self, node: fx.Node) -> "Call":
        """Another call of the same trace."""
        return Call(self.root, self.path, node)

    @property
    def users(self) -> list["Call"]:
        return [self.of(each) for each in self.node.users]

    def function(self, x: Tensor) -> Tensor:
        """What a function or method makes of its first input beside constants; NaN if it takes other tensors."""
        node = self.node
        others, options = node.args[1:], {key: each for key, each in node.kwargs.items() if key != "input"}
        if any(isinstance(each, fx.Node) for each in (*others, *options.values())):
            return torch.full_like(x, torch.nan)
        target: Any = getattr(torch.Tensor, node.target) if isinstance(node.target, str) else node.target
        result: Tensor = target(x, *others, **options)
        return result


def joined(*names: str) -> str:
    return ".".join(filter(None, names))


class _Tracer(fx.Tracer):
    def __init__(self, is_leaf: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.is_leaf = is_leaf
        self.constants: dict[nn.Module, set[str]] = {}  # arguments that a module got from no tensor, in some call

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.is_leaf(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        bound = inspect.signature(m.forward).bind(*args, **kwargs)
        bound.apply_defaults()
        fixed = {name for name, value in bound.arguments.items() if not _holds_proxy(value)}
        self.constants.setdefault(m, set()).update(fixed)
        return super().call_module(m, forward, args, kwargs)


def _holds_proxy(value: Any) -> bool:
    return any(isinstance(each, fx.Proxy) for each in tree_leaves(value))


def _is_leaf(module: nn.Module) -> bool:
    return is_norm(module) or is_activation(module) or is_gate(module) or is_dropout(module)


def _is_whole(module: nn.Module) -> bool:
    """Whether torch.fx takes a module, torch's own and no container, as a single call."""
    return _Tracer(_is_leaf).is_leaf_module(module, "") and type(module).forward is not nn.Module.forward


@dataclass(frozen=True)
class Traces:
    """The calls of a model, in order.

    failures: paths of modules whose forward cannot be traced, with the reason. Where they are called, they are single
        calls; what is inside them is traced for itself.
    constants: module -> arguments that some call of it gave as a constant, or left out.
    """

    calls: tuple[Call, ...]
    failures: dict[str, str]
    constants: dict[nn.Module, set[str]]


def traces(model: nn.Module) -> Traces:
    untraceable = _untraceable(model)
    calls, failures, constants, visited = list[Call](), dict[str, str](), dict[nn.Module, set[str]](), set[nn.Module]()

    def visit(path: str, module: nn.Module) -> None:
        if module in visited or _is_leaf(module) or (path and _is_whole(module)):
            return
        visited.add(module)
        if module in untraceable:
            failures[path] = untraceable[module]
            for name, child in module.named_children():
                visit(joined(path, name), child)
            return
        graph, fixed = _traced(module, untraceable)
        calls.extend(own := [Call(module, path, node) for node in graph.nodes])
        for each, names in fixed.items():
            constants.setdefault(each, set()).update(names)
        for call in own:
            if call.module in untraceable:
                visit(call.name, call.module)

    visit("", model)
    return Traces(tuple(calls), failures, constants)


def _untraceable(model: nn.Module) -> dict[nn.Module, str]:
    """The modules whose own forward, with calls of the others among them taken as a whole, cannot be traced."""
    failures: dict[nn.Module, str] = {}
    for modules in ([model], reversed(list(model.modules()))):  # the whole first; then each, its children before it
        failures.clear()
        for module in modules:
            if module is model or not _is_whole(module):
                try:
                    _traced(module, failures)
                except Exception as error:  # a forward that meets no tensor may raise anything
                    failures[module] = f"{type(error).__name__}: {error}".splitlines()[0]
        if not failures:
            break
    return failures


def _traced(module: nn.Module, opaque: Container[nn.Module]) -> tuple[fx.Graph, dict[nn.Module, set[str]]]:
    """The whole forward, with its optional arguments at their defaults."""
    parameters = inspect.signature(module.forward).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
    tracer = _Tracer(lambda each: _is_leaf(each) or each in opaque)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of defaults that torch.fx does not check
        graph = tracer.trace(module, defaults or None)
    return graph, tracer.constants | {module: set(defaults)}


def own_graph(module: nn.Module) -> fx.Graph:
    """A module's own forward: calls of other modules are single calls."""
    return _Tracer(lambda _: True).trace(module)


def own_calls(module: nn.Module, graph: fx.Graph) -> list[Call]:
    """The functions, methods and activations that a forward calls itself, in order: `Call.is_own`."""
    return [call for node in graph.nodes if is_own(call := Call(module, "", node))]


def is_own(call: Call) -> bool:
    """Whether a call is seen alike in the trace of its owner alone and in that of the model."""
    return call.node.op in ("call_function", "call_method") or call.is_activation
