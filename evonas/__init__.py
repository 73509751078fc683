"""evonas evolves normalization-activation layers. The public names:

evonas.search(config)             launch a search
evonas.resume(run)                go on with one
evonas.open_run(run)              query one: .top(n), .candidate(birth), .final_table()
evonas.validate(run)              judge its best on the test images, once it has ended
evonas.Graph.parse(text)          read a graph
evonas.layer(graph, features)     a graph, its text or a catalog name as a torch module
evonas.catalog                    known layers
"""

from evonas.config import Config
from evonas.config_file import load_config
from evonas.evolution import Stopped
from evonas.layers import layer
from evonas.run import Run, open_run, resume, search
from evonas.studies.validate import validate
from search_space.catalog import catalog
from search_space.errors import InputError
from search_space.graph import Graph

__all__ = [
    "Config",
    "Graph",
    "InputError",
    "Run",
    "Stopped",
    "catalog",
    "layer",
    "load_config",
    "open_run",
    "resume",
    "search",
    "validate",
]
