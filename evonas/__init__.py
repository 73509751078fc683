"""evonas evolves normalization-activation layers. The public names:

evonas.search(config)             launch a search
evonas.resume(run)                go on with one
evonas.open_run(run)              query one: .top(n), .candidate(birth), .final_table()
evonas.runs(folder)               the runs of a folder or a database
evonas.compare(runs)              the best layers of several runs, and what differs between their configs
evonas.write_report(runs, path)   write one HTML file on runs, which works offline
evonas.tensorboard(run, folder)   write a run's scalars for TensorBoard, live too
evonas.serve(places)              serve a page that follows runs while they search
evonas.validate(run)              judge its best on the test images, once it has ended
evonas.evaluate(layer, config)    train a layer of your own on a config's proxies
evonas.ablate(layer, config)      remove or replace each of its parts, and train what is left
evonas.card(layer)                show all that is known of a layer: speed, memory, validations, ablation
evonas.noise(config, layer)       measure how far figures spread over seeds
evonas.fidelity(config, reference)   measure how well its proxies predict long trainings
evonas.bench(config)              time dtypes, memory formats and torch.compile on this machine
evonas.doctor(config)             check everything before a launch
evonas.submit(config, address)    send a search to a Ray cluster
evonas.export(layer, path)        write a layer as a Python file, an ONNX model or a program
evonas.export_package(layers, folder)   write several as one package with a `norm_layer=`
evonas.parity(layer)              compare a layer's formats with a float64 reference
evonas.Graph.parse(text)          read a graph
evonas.layer(graph, features)     a layer as a torch module: a graph, its text, a catalog name, or RUN#BIRTH
evonas.norm_layer(graph)          the same for `norm_layer=` of timm and torchvision
evonas.replace(model, layer)      put a layer in the place of a model's norms and activations
evonas.replacements(model, layer) show what that would do
evonas.update_moments(loader, model)   average running moments over a loader, as torch's update_bn
evonas.synchronize(model)         batch statistics of all processes, as torch's SyncBatchNorm
evonas.freeze(model)              fix the moments and the parameters of its layers
evonas.catalog                    known layers

Each is imported when it is first used, so that `import evonas` and the packages below do not wait for what they do not
need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evonas.search_space import picture as _picture

if TYPE_CHECKING:
    from evonas.cluster import submit
    from evonas.comparison import compare
    from evonas.config import Config
    from evonas.config_input import load_config
    from evonas.driver import resume, search
    from evonas.layers import layer, norm_layer
    from evonas.layers.export import export
    from evonas.layers.package import export_package
    from evonas.layers.parity import Refused, parity
    from evonas.layers.replace import replace, replacements
    from evonas.layers.whole_models import freeze, synchronize, update_moments
    from evonas.live.serve import serve
    from evonas.report.page import write_report
    from evonas.report.tensorboard import tensorboard
    from evonas.run import Run, open_run
    from evonas.run_list import runs
    from evonas.search_space.catalog import LAYERS
    from evonas.search_space.errors import InputError
    from evonas.search_space.graph import Graph
    from evonas.session import Stopped
    from evonas.studies.ablate import ablate
    from evonas.studies.bench import bench
    from evonas.studies.card import card
    from evonas.studies.doctor import doctor
    from evonas.studies.evaluate import evaluate
    from evonas.studies.fidelity import fidelity
    from evonas.studies.neighbours import neighbours
    from evonas.studies.noise import noise
    from evonas.studies.validate import validate

    catalog = LAYERS

__all__ = [
    "Config",
    "Graph",
    "InputError",
    "Refused",
    "Run",
    "Stopped",
    "ablate",
    "bench",
    "card",
    "catalog",
    "compare",
    "doctor",
    "evaluate",
    "export",
    "export_package",
    "fidelity",
    "freeze",
    "layer",
    "load_config",
    "neighbours",
    "noise",
    "norm_layer",
    "open_run",
    "parity",
    "replace",
    "replacements",
    "resume",
    "runs",
    "search",
    "serve",
    "submit",
    "synchronize",
    "tensorboard",
    "update_moments",
    "validate",
    "write_report",
]
__version__ = "0.1.0"

_MODULES = {
    "Config": "evonas.config",
    "Graph": "evonas.search_space.graph",
    "InputError": "evonas.search_space.errors",
    "Refused": "evonas.layers.parity",
    "Run": "evonas.run",
    "Stopped": "evonas.session",
    "ablate": "evonas.studies.ablate",
    "bench": "evonas.studies.bench",
    "card": "evonas.studies.card",
    "neighbours": "evonas.studies.neighbours",
    "catalog": "evonas.search_space.catalog:LAYERS",
    "compare": "evonas.comparison",
    "doctor": "evonas.studies.doctor",
    "evaluate": "evonas.studies.evaluate",
    "export": "evonas.layers.export",
    "export_package": "evonas.layers.package",
    "parity": "evonas.layers.parity",
    "fidelity": "evonas.studies.fidelity",
    "freeze": "evonas.layers.whole_models",
    "layer": "evonas.layers",
    "norm_layer": "evonas.layers",
    "noise": "evonas.studies.noise",
    "load_config": "evonas.config_input",
    "open_run": "evonas.run",
    "replace": "evonas.layers.replace",
    "replacements": "evonas.layers.replace",
    "resume": "evonas.driver",
    "runs": "evonas.run_list",
    "search": "evonas.driver",
    "serve": "evonas.live.serve",
    "submit": "evonas.cluster",
    "synchronize": "evonas.layers.whole_models",
    "tensorboard": "evonas.report.tensorboard",
    "update_moments": "evonas.layers.whole_models",
    "validate": "evonas.studies.validate",
    "write_report": "evonas.report.page",
}


def _svg(graph: "Graph") -> bytes:
    from evonas.report.picture import svg

    return svg(graph)


_picture.svg = _svg  # for graphs in a notebook


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'evonas' has no attribute '{name}'")
    module, _, attribute = _MODULES[name].partition(":")
    value = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
