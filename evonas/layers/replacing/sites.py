"""The normalization layers of a model, each with the activation that follows it, if one does."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise

from torch import Tensor, fx, nn

from evonas.layers.replacing.places import Place, normalizes, place_of
from evonas.layers.replacing.rewriting import Unrewritable, expect_rewritable
from evonas.layers.replacing.tracing import (
    Call,
    Traces,
    is_activation,
    is_dropout,
    is_norm,
    is_own,
    is_passed_through,
    traces,
)
from evonas.layers.whole_models import Frozen, is_exported
from evonas.search_space.layer import Layer


class Kind(StrEnum):
    PAIR = "pair"  # a norm and its activation
    ALONE = "alone"  # a norm without activation
    LEFT = "left"


@dataclass(frozen=True, eq=False)
class Site:
    """A norm of a model, and what can become of it.

    activation: what follows the norm, as a person reads it.
    function: the same as a function; None without one, and where it is the norm's own.
    why: the reason why the norm is left; what follows it instead of an activation; or how the activation was found
        without a trace.
    calls: of the activation in the traced forward.
    unused: activation modules that nothing calls once the pair is replaced.
    skipped: modules -> which of the activations in their forward are left out then.
    """

    name: str
    norm: nn.Module
    kind: Kind
    place: Place | None = None  # None: the norm is left
    activation: str = ""
    function: Callable[[Tensor], Tensor] | None = None
    why: str = ""
    calls: tuple[Call, ...] = ()
    unused: frozenset[nn.Module] = frozenset()
    skipped: Mapping[nn.Module, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bystander:
    """A call that stays as it is, and the reason: an activation after no norm, or the classifier."""

    name: str
    what: str
    why: str


def find_sites(model: nn.Module) -> tuple[list[Site], list[Bystander]]:
    """The norms of a model in the order of their names, and what stays beside them.

    Each norm is followed to its activation in the traced forward. Where a forward cannot be traced, the order of
    definition tells what follows.
    """
    traced = traces(model)
    calls: dict[nn.Module, list[Call]] = defaultdict(list)
    for call in traced.calls:
        if call.module is not None:
            calls[call.module].append(call)
    sites = [
        _site(model, name, module, calls[module], traced) for name, module in model.named_modules() if is_norm(module)
    ]
    sites = _settled(model, sites, traced, calls)
    replaced = {call.node for site in sites for call in site.calls}
    after_none = [call for call in traced.calls if call.is_activation and call.node not in replaced]
    others = [Bystander(call.name, call.word, _why_unpaired(call)) for call in after_none]
    return sites, [*others, *_classifier(traced)]


def find_norms(model: nn.Module) -> list[Site]:
    """The norms of a model for a layer without activation: whatever follows them stays, and no trace is needed."""
    return [_norm(model, name, module) for name, module in model.named_modules() if is_norm(module)]


# --------------------------------------------------------------------------- one norm


def _norm(model: nn.Module, name: str, norm: nn.Module) -> Site:
    if fused := _inside_fused(model, name):
        return Site(name, norm, Kind.LEFT, why=f"{fused} computes it itself in evaluation, and never calls it")
    if own := own_activation(norm):
        return Site(name, norm, Kind.LEFT, activation=f"{own}, its own", why="its own activation would be lost")
    return _placed(Site(name, norm, Kind.ALONE))


def _site(model: nn.Module, name: str, norm: nn.Module, calls: list[Call], traced: Traces) -> Site:
    site = _with_activation(model, name, norm, calls, traced)
    return _placed(site) if site.kind is not Kind.LEFT else site


def _placed(site: Site) -> Site:
    """A site with its place; left, where the norm has none, or is not to be replaced."""
    weight, why = getattr(site.norm, "weight", None), ""
    if isinstance(site.norm, Frozen) or (isinstance(weight, Tensor) and not isinstance(weight, nn.Parameter)):
        why = "it is frozen"
    elif isinstance(site.norm, Layer) or is_exported(site.norm):
        why = "it is a layer of evonas"
    elif (place := place_of(site.norm)) is None:
        why = "it has no channels at axis 1 or axis -1"
    elif not normalizes(site.norm, place):
        why = "its output grows with its input"
    else:
        return replace(site, place=place)
    return Site(site.name, site.norm, Kind.LEFT, why=why)


def _with_activation(model: nn.Module, name: str, norm: nn.Module, calls: list[Call], traced: Traces) -> Site:
    parent = name.rpartition(".")[0]
    if name and not calls and parent not in traced.failures:
        return Site(name, norm, Kind.LEFT, why=_why_not_called(model, name))
    own = own_activation(norm)
    if own:
        if any(is_dropout(each) for each in norm.children()):
            return Site(name, norm, Kind.LEFT, activation=own, why="its dropout would be lost")
        return Site(name, norm, Kind.PAIR, activation=f"{own}, its own")
    if not name:  # the model itself
        return Site(name, norm, Kind.ALONE)
    if not calls:
        caller = parent
        while isinstance(model.get_submodule(caller), nn.ModuleList | nn.ModuleDict):
            caller = caller.rpartition(".")[0]
        return _by_definition(model.get_submodule(parent), name, norm, traced.failures[caller])
    followed = [_followed(name, norm, call) for call in calls]
    if len({(each.kind, each.activation) for each in followed}) > 1:
        return Site(name, norm, Kind.LEFT, why="it is called in several places, which differ")
    return replace(followed[0], calls=tuple(call for each in followed for call in each.calls))


def own_activation(norm: nn.Module) -> str:
    """The activation that a norm applies itself; "" for none."""
    act = getattr(norm, "act", None)
    if isinstance(act, nn.Module):
        return "" if is_passed_through(act) else type(act).__name__
    return type(norm).__name__ if getattr(norm, "apply_act", False) else ""


def _followed(name: str, norm: nn.Module, call: Call) -> Site:
    users = call.users
    if len(users) != 1:
        words = [each.word for each in users]
        if not users or any(each.is_activation for each in users):
            return Site(name, norm, Kind.LEFT, why=f"its output goes to {' and '.join(words) or 'nothing'}")
        return _alone(name, norm, users)
    (user,) = users
    if user.is_activation:
        function = user.module or user.function
        return Site(name, norm, Kind.PAIR, activation=user.word, function=function, calls=(user,))
    if user.is_gate:
        return Site(name, norm, Kind.LEFT, activation=user.word, why=f"{user.word}, a gate, follows")
    if user.module is not None and is_passed_through(user.module):
        return _followed(name, norm, user)
    if user.is_dropout and (after := _followed(name, norm, user)).activation:
        return Site(name, norm, Kind.LEFT, activation=after.activation, why=f"{user.word} stands before its activation")
    if user.node.op == "output" and user.path:
        return Site(name, norm, Kind.LEFT, why=f"what follows {user.path} cannot be traced")
    return _alone(name, norm, users)


def _alone(name: str, norm: nn.Module, users: list[Call]) -> Site:
    """A norm that no known activation follows. Functions alone, several of one value, may be one that is written out,
    like x * sigmoid(x)."""
    words = list(dict.fromkeys(each.word for each in users))
    why = f"followed by {' and '.join(words)}"
    if len(words) > 1 and all(each.module is None for each in users):
        why += ", which is no activation of torch, even if it computes one"
    return Site(name, norm, Kind.ALONE, why=why)


def _by_definition(parent: nn.Module, name: str, norm: nn.Module, failure: str) -> Site:
    """A norm that is called where the forward cannot be traced. It has an activation where each norm beside it is
    followed by one of its own."""
    siblings = [each for each in parent.children() if not is_passed_through(each)]
    followers = {before: after for before, after in pairwise(siblings) if is_norm(before) and is_activation(after)}
    why = f"by the order of definition ({failure})"
    if not any(is_activation(each) for each in siblings):
        return Site(name, norm, Kind.ALONE, why=why)
    if len(followers) == sum(map(is_norm, siblings)) == sum(map(is_activation, siblings)):
        word, unused = type(followers[norm]).__name__, frozenset([followers[norm]])
        return Site(name, norm, Kind.PAIR, activation=word, function=followers[norm], why=why, unused=unused)
    return Site(name, norm, Kind.LEFT, why=f"whether an activation follows is unknown ({failure})")


def _above(model: nn.Module, name: str) -> list[nn.Module]:
    """The modules that hold one, the model first."""
    parts = name.split(".")
    return [model.get_submodule(".".join(parts[:n])) for n in range(len(parts))] if name else []


def _inside_fused(model: nn.Module, name: str) -> str:
    """The torch module whose fast path reads a norm's weights and leaves its forward alone; "" for none."""
    above = [each for each in _above(model, name) if isinstance(each, nn.TransformerEncoderLayer)]
    return type(above[0]).__name__ if above else ""


def _why_not_called(model: nn.Module, name: str) -> str:
    for module in _above(model, name):
        lists = nn.Sequential | nn.ModuleList | nn.ModuleDict
        if type(module).__module__.startswith("torch.nn") and not isinstance(module, lists):
            return f"it is inside {type(module).__name__}, which is traced as a whole"
    return f"the forward does not call it in {'training' if model.training else 'evaluation'}"


# --------------------------------------------------------------------------- activations that are not called any more


def _settled(model: nn.Module, sites: list[Site], traced: Traces, calls: Mapping[nn.Module, list[Call]]) -> list[Site]:
    """The sites with what is unused or skipped; left, where an activation cannot be left out."""
    invocations: dict[object, list[Call]] = defaultdict(list)
    for call in traced.calls:
        if is_own(call):
            invocations[call.invocation].append(call)
    while True:
        wanted = {call.node for site in sites for call in site.calls}
        unused = {module for module in calls if is_activation(module) and all(c.node in wanted for c in calls[module])}
        owners = {c.owner for site in sites for c in site.calls if c.module not in unused}
        skipped, faults = dict[str, frozenset[int]](), dict[str, str]()
        for owner in owners:
            try:
                skipped[owner] = _ordinals(model.get_submodule(owner), owner, traced, invocations, wanted)
            except Unrewritable as error:
                faults[owner] = str(error)
        failing = {site: faults[c.owner] for site in sites for c in site.calls if c.owner in faults}
        if not failing:
            return [_without_calls(model, site, unused, skipped) for site in sites]
        sites = [_left(each, failing[each]) if each in failing else each for each in sites]


def _left(site: Site, fault: str) -> Site:
    why = f"its activation cannot be left out: {fault}"
    return replace(site, kind=Kind.LEFT, place=None, calls=(), why=why)


def _ordinals(
    module: nn.Module, path: str, traced: Traces, invocations: Mapping[object, list[Call]], wanted: set[fx.Node]
) -> frozenset[int]:
    """Which activations in the forward of a module are left out. Raises Unrewritable."""
    per_call = set()
    for own in invocations.values():
        if own[0].owner == path:
            expect_rewritable(module, [call.word for call in own], traced.constants.get(module, ()))
            activations = [call for call in own if call.is_activation]
            per_call.add(frozenset(n for n, call in enumerate(activations) if call.node in wanted))
    if len(per_call) != 1:
        raise Unrewritable("its calls differ")
    return per_call.pop()


def _without_calls(model: nn.Module, site: Site, unused: set[nn.Module], skipped: Mapping[str, frozenset[int]]) -> Site:
    if not site.calls:
        return site
    modules = frozenset(call.module for call in site.calls if call.module in unused)
    owners = {call.owner for call in site.calls if call.module not in unused}
    added = "" if not owners else "()" if site.calls[0].module is None else ", shared"
    numbers = {model.get_submodule(owner): skipped[owner] for owner in owners}
    return replace(site, activation=f"{site.activation}{added}", unused=modules, skipped=numbers)


# --------------------------------------------------------------------------- what stays


def _why_unpaired(call: Call) -> str:
    """The reason for which an activation stays: it follows no norm, or one that is left."""
    nodes = call.node.all_input_nodes
    producer = call.of(nodes[0]) if nodes else call
    if producer.module is not None and is_passed_through(producer.module):  # an identity
        return _why_unpaired(producer)
    if producer.module is not None and is_norm(producer.module):
        return f"{producer.name} is left"
    return f"follows {producer.word}, no norm"


def _classifier(traced: Traces) -> Iterator[Bystander]:
    """The last module with parameters before the model's output, if neither norm nor activation comes after it."""
    output = next((call for call in traced.calls if call.node.op == "output" and not call.path), None)
    while output is not None and len(output.node.all_input_nodes) == 1:
        output = output.of(output.node.all_input_nodes[0])
        if output.is_activation or (output.module is not None and is_norm(output.module)):
            return
        if output.module is not None and any(True for _ in output.module.parameters()):
            yield Bystander(output.name, output.word, "the classifier")
            return
