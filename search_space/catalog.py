"""Known layers as text: the baselines of every search, and the starting points of none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from search_space.errors import InputError, did_you_mean
from search_space.graph import Graph


@dataclass(frozen=True, slots=True)
class KnownLayer:
    name: str
    text: str
    year: int
    source: str

    @property
    def graph(self) -> Graph:
        return Graph.parse(self.text)


_ROWS = (
    KnownLayer(
        "BN-ReLU", "max((x - mean_bhw(x)) / std_bhw(x), zero)", 2015, "arXiv:1502.03167; torch.nn.BatchNorm2d, ReLU"
    ),
    KnownLayer(
        "GN-ReLU", "max((x - mean_ghw(x)) / std_ghw(x), zero)", 2018, "arXiv:1803.08494; torch.nn.GroupNorm, ReLU"
    ),
    KnownLayer(
        "BN-SiLU",
        "a = (x - mean_bhw(x)) / std_bhw(x)\na * sigmoid(a)",
        2017,
        "arXiv:1502.03167, arXiv:1710.05941; torch.nn.BatchNorm2d, SiLU",
    ),
    KnownLayer("ReLU", "max(x, zero)", 2010, "torch.nn.ReLU"),
    KnownLayer(
        "EvoNorm-B0",
        "x / max(std_bhw(x), v1 * x + std_hw(x))",
        2020,
        "arXiv:2004.02967; tensorflow/tpu models/official/resnet/resnet_model.py",
    ),
    KnownLayer(
        "EvoNorm-S0",
        "x * sigmoid(v1 * x) / std_ghw(x)",
        2020,
        "arXiv:2004.02967; tensorflow/tpu models/official/resnet/resnet_model.py",
    ),
)


class UnknownLayer(InputError, KeyError):
    """A name that the catalog does not have."""

    __str__ = Exception.__str__


class Catalog(Mapping[str, KnownLayer]):
    """The known layers by name; an unknown name raises InputError with the nearest one."""

    def __init__(self, rows: tuple[KnownLayer, ...]) -> None:
        self._rows = {row.name: row for row in rows}

    def __getitem__(self, name: str) -> KnownLayer:
        try:
            return self._rows[name]
        except KeyError:
            raise UnknownLayer(f"unknown layer '{name}'{did_you_mean(name, self._rows)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


catalog = Catalog(_ROWS)
