"""What a user of an exported file does, in a process that cannot import evonas. Uses torch alone.

Run as `python exported_process.py FOLDER`: trains and evaluates each `EvolvedLayer` of FOLDER/<case>.py with the
options of FOLDER/cases.pt that its class has, and writes what came out, or the traceback, to FOLDER/results.pt.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

STEPS = 3


class NoEvonas(MetaPathFinder):
    """Makes every import of this project an error."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.split(".")[0] in ("evonas", "search_space", "workers", "tests"):
            raise ImportError(f"{name} is out of reach")
        return None


def exercise(layer: nn.Module, shape: tuple[int, ...], inputs: int) -> dict[str, Tensor]:
    """Training steps, each with other parameters, then an evaluation: outputs, state, and every gradient."""
    generator = torch.Generator().manual_seed(0)
    parameters = dict(sorted(layer.named_parameters()))
    seen: dict[str, Tensor] = {f"initial {name}": value.clone() for name, value in layer.state_dict().items()}
    for step in range(STEPS + 1):
        layer.train(step < STEPS)
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        given = {f"input {k}": torch.randn(shape, generator=generator).requires_grad_() for k in range(inputs)}
        output = layer(*given.values())
        seen[f"output {step}"] = output.detach()
        slope = torch.randn(shape, generator=generator)
        learned = given | parameters
        options = {"allow_unused": True, "materialize_grads": True}
        gradients = torch.autograd.grad((output * slope).sum(), list(learned.values()), **options)
        seen |= {f"gradient {step} {name}": each for name, each in zip(learned, gradients, strict=True)}
    return seen | {f"final {name}": value for name, value in layer.state_dict().items()}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    sys.meta_path.insert(0, NoEvonas())
    results: dict[str, dict[str, Tensor] | str] = {}
    for name in ("evonas", "evonas.search_space.graph", "evonas.workers"):
        try:
            importlib.import_module(name)
            results[f"import {name}"] = "imported"
        except ImportError:
            results[f"import {name}"] = "refused"
    for case, (shape, inputs, options) in torch.load(folder / "cases.pt").items():
        try:
            spec = importlib.util.spec_from_file_location(case, folder / f"{case}.py")
            assert spec and spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            channels = shape[options.get("channel_dim", 1)]
            known = inspect.signature(module.EvolvedLayer).parameters
            layer = module.EvolvedLayer(channels, **{name: options[name] for name in options if name in known})
            results[case] = exercise(layer, shape, inputs)
        except Exception:
            results[case] = traceback.format_exc()
    torch.save(results, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
