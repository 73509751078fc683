"""Put a layer in the place of a model's norms and activations."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from evonas.layers import norm_layer
from evonas.layers.replacing.carrying import carry_over, moments_of
from evonas.layers.replacing.chosen import Chosen, Part, maker, options_for
from evonas.layers.replacing.rewriting import skip_activations
from evonas.layers.replacing.sites import Bystander, Kind, Site, find_norms, find_sites
from evonas.layers.resolve import named_layer
from evonas.layers.whole_models import batch_moments, exchanged, expect_module
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.wording import counted

if TYPE_CHECKING:
    from evonas.search_space.graph import Graph
    from evonas.store.records import Record

_OF_SITES = ("num_features", "channel_dim", "apply_act", "device", "dtype")  # options that each site decides
_WIDTH = 100  # columns of a printed table


def replace(
    model: nn.Module,
    layer: "Graph | str | Record | Callable[..., nn.Module]",
    *,
    without_activation: Part | None = None,
    **options: Any,
) -> nn.Module:
    """Put a layer in the place of a model's norms and their activations; `evonas.replacements` shows what would happen.

    Norms and activations are those of torch, torchvision and timm, which may have both in one. An activation that is
    used elsewhere too, as the `self.relu` of a ResNet is after its addition, stays there. Where a `forward` calls such
    a shared module, or a function, it is written anew without that call; the module stays an instance of its class.
    A layer without activation takes the norm's place alone, and the activations stay. Such are GroupNorm, DyT and other
    norms of the catalog, its reference modules, and graphs that are affine in x but for their statistics.

    A layer has the site's device, dtype and axis of channels, and its eps, momentum and groups unless they are given.
    It takes over the affine and the running moments of x, and whether the norm is trained; a norm's own hooks are lost.
    A BatchNorm's unbiased running variance stays unbiased. Where it can compute what the norm and the activation
    computed, as BN-ReLU can for a BatchNorm and its ReLU, the affine goes where it does, and the model's outputs stay:
    a norm's affine stands before the activation, as `norm_weight` and `norm_bias` of the new layer, whose own affine
    stands after it, and is 1 and 0. All other weights stay.

    Args:
        model: changed; `copy.deepcopy(model)` keeps it.
        layer: anything that `evonas.layer` takes, the class of an exported file, or a function that makes a layer, such
            as the `norm_act` that a network of a search is built with.
        without_activation: what a norm without activation becomes. "norm": the norm of a catalog layer that has one,
            else an affine, as with `apply_act=False`; "affine": weight * x + bias; "layer": the whole layer; "keep": it
            stays. None is "norm", but refused where that would leave a model without any norm, as a transformer.
        options: of the layer.

    Returns the model; the new layer if the model is itself a norm.
    Raises InputError for what is no layer, a layer whose output does not change with x, an unknown option, and a model
    without a norm that can be replaced.

    >>> model = evonas.replace(torchvision.models.resnet50(weights="DEFAULT"), "EvoNorm-S0", groups=8)
    >>> model = evonas.replace(timm.create_model("vit_small_patch16_224"), "DyT")
    """
    plan = _plan(model, layer, without_activation, options)
    if plan.refusal:
        raise InputError(plan.refusal)
    changes = plan.changes
    made = {each.site.norm: each.layer for each in changes if each.layer is not None}
    for module, ordinals in {m: n for each in changes if each.layer for m, n in each.site.skipped.items()}.items():
        skip_activations(module, set(ordinals))
    unused = {module for each in changes if each.layer for module in each.site.unused}
    return exchanged(model, made | {module: nn.Identity().train(module.training) for module in unused})


@dataclass(frozen=True, slots=True)
class Replacement:
    """A place in a model, and what `evonas.replace` does there."""

    site: str
    norm: str
    activation: str
    becomes: str


@dataclass(frozen=True, slots=True, repr=False)
class Replacements:
    """The plan of `evonas.replace` for each norm; and, beside a layer with an activation, each activation that follows
    no norm, and the classifier."""

    rows: tuple[Replacement, ...]
    summary: str

    def __repr__(self) -> str:
        return "\n".join([*_table([asdict(each) for each in self.rows]), self.summary])

    def _repr_html_(self) -> str:
        from evonas.report.notebook import table_html  # only a notebook needs it

        return f"{table_html([asdict(each) for each in self.rows])}<p>{self.summary}</p>"


def replacements(
    model: nn.Module,
    layer: "Graph | str | Record | Callable[..., nn.Module]",
    *,
    without_activation: Part | None = None,
    **options: Any,
) -> Replacements:
    """The plan of `evonas.replace` with the same arguments, as a table; the model stays as it is. Where `replace` would
    refuse the model, the last line says why."""
    plan = _plan(model, layer, without_activation, options)
    rows = [Replacement(each.site.name, each.norm, each.site.activation, each.becomes) for each in plan.changes]
    rows += [Replacement(each.name, "", each.what, f"stays: {each.why}") for each in plan.bystanders]
    if plan.refusal:
        return Replacements(tuple(rows), f"Refused: {plan.refusal}")
    kinds = Counter(each.site.kind if each.layer is not None else Kind.LEFT for each in plan.changes)
    pairs, alone, left = (counted(kinds[kind], word) for kind, word in zip(Kind, ("pair", "norm", "norm"), strict=True))
    rest = "" if plan.bystanders else "; everything else stays"
    return Replacements(tuple(rows), f"{pairs} and {alone} replaced, {left} left{rest}")


# --------------------------------------------------------------------------- what becomes of each site


@dataclass(frozen=True, slots=True)
class _Change:
    site: Site
    norm: str
    layer: nn.Module | None  # None: the norm stays
    becomes: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """The change of each norm, and the activations that stay. Nothing is replaced where `refusal` says why."""

    changes: list[_Change]
    bystanders: list[Bystander]
    refusal: str


def _plan(model: nn.Module, kind: Any, without_activation: Part | None, options: dict[str, Any]) -> _Plan:
    _expect_replaceable(model)
    if without_activation not in (None, *get_args(Part)):
        hint = did_you_mean(without_activation, get_args(Part))
        raise InputError(f"without_activation: unknown value {without_activation!r}{hint}")
    for name in _OF_SITES:
        if name in options:
            raise InputError(f"{name}: every site has its own")
    if not callable(kind) and kind not in LAYERS:
        kind = named_layer(kind).graph  # a run is opened once
    norm_layer(kind, **options)(1)  # raises for what is no layer, and for an unknown option
    part, bystanders, refusal = without_activation or "norm", list[Bystander](), ""
    if Chosen.of(kind, "layer").is_norm:
        if part in ("affine", "keep"):
            raise InputError(f"without_activation: {part!r} is for layers with an activation alone")
        sites = find_norms(model)
    else:
        sites, bystanders = find_sites(model)
        only_alone = {site.kind for site in sites} - {Kind.LEFT} == {Kind.ALONE}
        if only_alone and without_activation is None and Chosen.of(kind, part).is_no_norm:
            refusal = _without_pairs(model, [site for site in sites if site.kind is Kind.ALONE])
    changes = [_change(model, site, kind, part, options) for site in sites]
    if not any(each.layer for each in changes):
        left = Counter(each.site.why for each in changes).most_common(1)
        refusal = f"{type(model).__name__} has no norm to replace{f': {left[0][0]}' if left else ''}"
    return _Plan(changes, bystanders, refusal)


def _without_pairs(model: nn.Module, alone: list[Site]) -> str:
    """The refusal of a model whose norms have no activations: a person must say what becomes of them."""
    why = Counter(f" ({site.why})" if site.why else "" for site in alone).most_common(1)[0][0]
    return (
        f"no norm of {type(model).__name__} has an activation{why}; without_activation='layer' puts the whole layer in "
        "their place, 'affine' an affine"
    )


def _expect_replaceable(model: nn.Module) -> None:
    """Raises InputError for a module whose layers cannot be exchanged, or are not there yet."""
    expect_module(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(f"{name or 'the model'}: expected a module before torch.jit.script")
        if any(is_lazy(each) for each in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
            raise InputError(f"{name or 'the model'}: expected a module with its sizes; call the model once before")


def _change(model: nn.Module, site: Site, kind: Any, alone: Part, options: dict[str, Any]) -> _Change:
    place, words = site.place, type(site.norm).__name__
    if place is None:
        return _Change(site, words, None, f"left: {site.why}")
    words = f"{words}({place.features})"
    if site.kind is Kind.ALONE and alone == "keep":
        return _Change(site, words, None, "left: no activation follows it")
    chosen = Chosen.of(kind, alone if site.kind is Kind.ALONE else "layer")
    made = options_for(model, site.norm, place, chosen, options)
    carried = carry_over(site.norm, site.function, place, maker(chosen, place, made), chosen.graph)
    layer = carried.layer.train(site.norm.training)
    same = "the same function" + ("" if carried.moves_alike else " until its moments move")
    notes = [chosen.name, same if carried.is_same else "", site.why]
    if not carried.is_same and set(batch_moments(layer)) - set(moments_of(site.norm, layer, chosen.graph)):
        notes.append("its moments start anew")
    notes += ["channels last"] * (place.channel_dim == -1)
    return _Change(site, words, layer, "; ".join(filter(None, notes)))


# --------------------------------------------------------------------------- the table


def _table(rows: list[dict[str, str]]) -> list[str]:
    """Lines of aligned columns; the last column is wrapped."""
    names = list(rows[0]) if rows else []
    widths = [max(len(row[name]) for row in [dict(zip(names, names, strict=True)), *rows]) for name in names[:-1]]
    lines = []
    for row in [dict(zip(names, names, strict=True)), *rows]:
        left = "  ".join(row[name].ljust(width) for name, width in zip(names, widths, strict=False))
        last = wrap(row[names[-1]], max(20, _WIDTH - len(left) - 2)) or [""]
        lines += [f"{left}  {last[0]}".rstrip(), *(" " * (len(left) + 2) + line for line in last[1:])]
    return lines
