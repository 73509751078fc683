"""Uses the gates of added_gates/ everywhere; run by test_one_file.py beside a package whose workers/gates/ has them."""

import sys
from pathlib import Path

import torch

from evonas.config_file import parse_config
from evonas.driver import search
from evonas.report.documents import gates_page
from evonas.search_space.errors import InputError
from evonas.store.database import Database
from evonas.studies.funnel import funnel
from evonas.studies.replay import replay
from evonas.workers.outcome import Rejection

torch.set_num_threads(1)
folder = Path(sys.argv[1]) / "run"
TEXT = """\
name: added
data: {train: 64, validation: 40, test: 40, image_size: 8}
space: {sampler: depends_on_x}
recipe: {batch_size: 16, steps: 3}
proxies: {resnet: {architecture: preact_resnet, blocks: [1]}}
gates:
  - depends_on_x
  - few_nodes: {most: 2}
  - weights
  - race: {steps: 2}
evolution: {births: 30, population: 10, audit_share: 0.1, rerank: {top: 0}}
cluster: {address: in_process}
"""


def complaint(old: str, new: str) -> str:
    try:
        parse_config(TEXT.replace(old, new), "added.yaml")
    except InputError as error:
        return str(error)
    return ""


# written in a config by name and by options, and validated
config = parse_config(TEXT)
assert [gate.label for gate in config.gates] == ["depends_on_x", "few_nodes", "weights", "race 2"]
assert complaint("{most: 2}", "{mos: 6}") == "added.yaml:8: gates.1.few_nodes.mos: unknown key; did you mean 'most'?"
assert complaint("- weights", "- weight") == "added.yaml:9: gates.2: unknown gate 'weight'; did you mean 'weights'?"
assert "few_nodes needs the layer alone and comes before weights" in complaint(
    "  - few_nodes: {most: 2}\n  - weights\n", "  - weights\n  - few_nodes\n"
)
assert "race after 9 steps, but recipe.steps is 3" in complaint("{steps: 2}", "{steps: 9}")
assert "race 2 stands twice" in complaint("  - race: {steps: 2}\n", 2 * "  - race: {steps: 2}\n")

# asked by the driver and by evaluations, recorded, compared with earlier candidates, and derived again
search(config, folder, progress=False)
reader = Database.open(folder).reader()
measured = [each for record in reader.evaluations("search") for each in record.evaluation.measurements]
assert {each.gate for each in measured} == {"depends_on_x", "few_nodes", "weights", "race"}
assert min(each.value for each in measured if each.gate == "weights") > 1000
assert any(each.threshold < 100.0 for each in measured if each.gate == "race")
stopped = {
    record.evaluation.outcome.gate
    for record in reader.evaluations("search")
    if isinstance(record.evaluation.outcome, Rejection)
}
assert {"few_nodes", "race"} <= stopped, stopped
assert replay(reader) == []

# shown by the funnel and listed in the documentation
rows = {row.gate: row for row in funnel(reader).rows}
assert list(rows) == ["depends_on_x", "few_nodes", "weights", "race 2", "diverged"]
assert rows["race 2"].stopped > 0
assert rows["diverged"].asked == rows["race 2"].asked
assert "| `few_nodes` | layer | The live nodes are few. | `most: 5` live nodes |" in gates_page()
print("the added gates are everywhere")
