"""Bad configs: one line says where, what and what instead."""

import pytest

from evonas.search_space.graph import NODES_MAX
from tests.evonas.config_cases import TEXT, changed, complaint, set_complaint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # unknown keys
        ("seed: 3", "sed: 3", "run.yaml:3: sed: unknown key; did you mean 'seed'?"),
        (
            "tournament_share",
            "tournement_share",
            "run.yaml:29: evolution.tournement_share: unknown key; did you mean 'tournament_share'?",
        ),
        ("width: 8", "wdth: 8", "run.yaml:13: proxies.small.wdth: unknown key; did you mean 'width'?"),
        ("      steps: 5", "      stps: 5", "run.yaml:26: gates.3.stability.stps: unknown key; did you mean 'steps'?"),
        ("{steps: 10,", "{stp: 10,", "run.yaml:24: gates.2.quality.stp: unknown key; did you mean 'steps'?"),
        ("{top: 1}", "{tpo: 1}", "run.yaml:30: evolution.rerank.tpo: unknown key; did you mean 'top'?"),
        (
            "blocks: 1, stride",
            "block: 1, stride",
            "run.yaml:20: proxies.rows.stages.0.blocks: missing (and 1 more)",
        ),
        (
            "stride: 2}",
            "stride: 2, kernl: 3}",
            "run.yaml:20: proxies.rows.stages.0.kernl: unknown key; did you mean 'kernel'?",
        ),
        # types
        ("seed: 3", "seed: three", "run.yaml:3: seed: should be a valid integer, got 'three'"),
        ("seed: 3", "seed: true", "run.yaml:3: seed: should be a valid integer, got true"),
        ("seed: 3", "seed: 3.5", "run.yaml:3: seed: should be a valid integer, got 3.5"),
        ("seed: 3", "seed:", "run.yaml:3: seed: should be a valid integer, got null"),
        ("seed: 3", "seed: '3'", "run.yaml:3: seed: should be a valid integer, got '3'"),
        ("name: table", "name: 3", "run.yaml:2: name: should be a valid string, got 3"),
        (
            "{nodes: 6}",
            "6",
            "run.yaml:4: space: expected keys and values (nodes, primitives, aggregations, ...), got 6",
        ),
        ("blocks: [1, 1]", "blocks: 2", "run.yaml:14: proxies.small.blocks: expected a list, got 2"),
        ("steps: 20", "crop: true", "run.yaml:7: recipe.crop: should be a valid integer, got true"),
        (
            "learning_rate: 0.1",
            "learning_rate: false",
            "run.yaml:8: recipe.learning_rate: should be a valid number, got false",
        ),
        ("train: 256", "path: [a]", "run.yaml:5: data.path: should be a valid string, got ['a']"),
        # ranges
        ("births: 10", "births: 0", "run.yaml:28: evolution.births: should be greater than or equal to 1, got 0"),
        ("seed: 3", "seed: -1", "run.yaml:3: seed: should be greater than or equal to 0, got -1"),
        (
            "tournament_share: 0.1",
            "tournament_share: 1.5",
            "run.yaml:29: evolution.tournament_share: should be less than or equal to 1, got 1.5",
        ),
        ("learning_rate: 0.1", "learning_rate: 0", "run.yaml:8: recipe.learning_rate: should be greater than 0, got 0"),
        ("[1, 1]", "[1, 0]", "run.yaml:14: proxies.small.blocks.1: should be greater than or equal to 1, got 0"),
        ("nodes: 6", "nodes: 1000", f"run.yaml:4: space.nodes: expected 1 to {NODES_MAX}, got 1000"),
        ("stride: 2}", "stride: 3}", "run.yaml:20: proxies.rows.stages.0.stride: expected 1 or 2, got 3"),
        (
            "name: table",
            "name: a/b",
            "run.yaml:2: name: expected letters a to z, digits, '.', '_' and '-', a letter or digit first, got 'a/b'",
        ),
        ("{nodes: 6}", "{leaves: null}", "run.yaml:4: space.leaves: expected a list, got null"),
        ("{nodes: 6}", "{primitives: null}", "run.yaml:4: space.primitives: expected 'paper' or a list, got null"),
        ("seed: 3", "store: null", "run.yaml:3: store: expected keys and values (url), got null"),
        ("seed: 3", "objectives: null", "run.yaml:3: objectives: expected a list, got null"),
        ("rate: 0.1", "rate: .nan", "run.yaml:8: recipe.learning_rate: expected a finite number, got '.nan'"),
        ("rate: 0.1", "rate: -.inf", "run.yaml:8: recipe.learning_rate: expected a finite number, got '-.inf'"),
        ("rate: 0.1", "rate: 1e999", "run.yaml:8: recipe.learning_rate: expected a finite number, got inf"),
        ("rate: 0.1", "rate: !!float .nan", "run.yaml:8: recipe.learning_rate: expected a finite number, got nan"),
        ("seed: 3", "? [a]\n: 3", "run.yaml:3: a list stands where a key is expected"),
        ("{nodes: 6}", "{{a: 1}: 6}", "run.yaml:4: a mapping stands where a key is expected"),
        # what cannot work
        ("rate: 0.1", "rate: 0.1\n  momentum: 1.0", "run.yaml:9: recipe.momentum: should be less than 1, got 1.0"),
        ("seed: 3", "cluster: {address: ''}", "run.yaml:3: cluster.address: expected at least 1 character, got ''"),
        (
            "{image_size: 8,",
            "{source: folder, path: '',",
            "run.yaml:5: data.path: expected at least 1 character, got ''",
        ),
        (
            "births: 10",
            "births: 1\n  warm_start: [BN-ReLU, GN-ReLU]",
            "run.yaml:28: evolution.births: expected one for each of the 2 layers of warm_start, got 1",
        ),
        # names
        (
            "schedule: cosine",
            "schedule: cosin",
            "run.yaml:9: recipe.schedule: expected 'constant' or 'cosine', got 'cosin'; did you mean 'cosine'?",
        ),
        (
            "- depends_on_x",
            "- depend_on_x",
            "run.yaml:22: gates.0: unknown gate 'depend_on_x'; did you mean 'depends_on_x'?",
        ),
        ("- stability:", "- stablity:", "run.yaml:25: gates.3: unknown gate 'stablity'; did you mean 'stability'?"),
        (
            "architecture: preact_resnet",
            "architecture: resnet",
            "run.yaml:11: proxies.small: unknown architecture 'resnet'; did you mean 'preact_resnet'?",
        ),
        (
            "{nodes: 6}",
            "{index_sets: [hw, hwb]}",
            "run.yaml:4: space.index_sets: unknown name 'hwb'; did you mean 'hw'?",
        ),
        (
            "{nodes: 6}",
            "{primitives: [sigmod]}",
            "run.yaml:4: space.primitives: unknown name 'sigmod'; did you mean 'sigmoid'?",
        ),
        (
            "{nodes: 6}",
            "{leaves: [x, y]}",
            "run.yaml:4: space.leaves: y: the proxies give a layer one input, x; graphs with y are written by hand",
        ),
        (
            "{nodes: 6}",
            "{leaves: [x, vectr(1)]}",
            "run.yaml:4: space.leaves: 'vectr(1)': graph text, line 1, column 1: unknown primitive 'vectr'; "
            "did you mean 'vector'?",
        ),
        (
            "{nodes: 6}",
            "{sampler: all}",
            "run.yaml:4: space.sampler: expected 'uniform' or 'depends_on_x', got 'all'",
        ),
        ("{nodes: 6}", "{leaves: [v0]}", "run.yaml:4: space.leaves: expected x among them, got v0"),
        (
            "{nodes: 6}",
            "{aggregations: [mean, mean]}",
            "run.yaml:4: space.aggregations: a name stands twice in mean, mean",
        ),
        (
            "{top: 1}",
            "{baselines: [BN-RELU]}",
            "run.yaml:30: evolution.rerank.baselines: unknown layer 'BN-RELU'; did you mean 'BN-ReLU'?",
        ),
        (
            "{top: 1}",
            "{baselines: [PCNorm]}",
            "run.yaml:30: evolution.rerank.baselines: PCNorm is no layer that can be built here: needs a "
            "two-dimensional Fourier transform and complex values",
        ),
        (
            "{top: 1}",
            "{baselines: [FAdaIN]}",
            "run.yaml:30: evolution.rerank.baselines: FAdaIN takes two inputs, x and y; the proxies give a layer one",
        ),
        (
            "{image_size: 8,",
            "{source: embeded,",
            "run.yaml:5: data.source: expected 'embedded', 'folder', 'CIFAR10', 'CIFAR100', 'SVHN' or 'FashionMNIST', "
            "got 'embeded'; did you mean 'embedded'?",
        ),
        # what is missing or too much
        (
            "    architecture: preact_resnet\n",
            "",
            "run.yaml:11: proxies.small: architecture is missing in {'width': 8, 'blocks': [1, 1], 'groups': 4}",
        ),
        ("{image_size: 8,", "{source: folder,", "run.yaml:5: data.path: missing; an image folder needs one"),
        (
            "{image_size: 8,",
            "{path: images,",
            "run.yaml:5: data.path: 'images' is never read; only the sources other than embedded have one",
        ),
        (", of_baseline: 0.5", "", "run.yaml:24: gates.2.quality: expected one of of_baseline and min_accuracy"),
        (
            "of_baseline: 0.5",
            "of_baseline: 0.5, min_accuracy: 0.2",
            "run.yaml:24: gates.2.quality: expected one of of_baseline and min_accuracy",
        ),
        (
            "stride: 2}",
            "stride: 2}\n    groups: 1",
            "run.yaml:21: proxies.rows.groups: should be greater than or equal to 2, got 1",
        ),
        ("seed: 3", "seed: 3\nseed: 4", "run.yaml:4: 'seed' stands twice"),
        ("width: 8", "width: 8\n    width: 9", "run.yaml:14: 'width' stands twice"),
        ("stride: 2}", "stride: 2, expand: 2}", "run.yaml:20: 'expand' stands twice"),
    ],
)
def test_mistakes_of_one_place(old: str, new: str, message: str) -> None:
    assert complaint(changed(old, new)) == message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  - depends_on_x\n  - finite:\n",
            "  - stability\n  - finite:\n",
            "run.yaml:21: gates: finite needs the layer alone and comes before stability",
        ),
        (
            "{steps: 10,",
            "{steps: 21,",
            "run.yaml:21: gates: quality after 21 steps, but recipe.steps is 20; expected recipe.steps of at least 21",
        ),
        (
            "{image_size: 8, train: 256, validation: 100}\nrecipe:",
            "{train: 256, validation: 100}\nrecipe:\n  crop: 29",
            "run.yaml:7: recipe.crop: 29 is larger than the images of embedded, 28",
        ),
        (
            "  - finite:",
            "  - rung: {steps: 10}\n  - rung: {steps: 10}\n  - finite:",
            "run.yaml:21: gates: finite needs the layer alone and comes before rung",
        ),
        (
            "groups: 4",
            "groups: 8",
            "run.yaml:15: proxies.small.groups: with 8, a site of 8 channels has 8 groups, so that ghw is hw; "
            "expected at least 2 groups of 2 channels",
        ),
        (
            "width: 8",
            "width: 7",
            "run.yaml:15: proxies.small.groups: with 4, a site of 7 channels has 1 group, so that ghw is chw; "
            "expected at least 2 groups of 2 channels",
        ),
        (
            "steps: 20",
            "steps: 20\n  crop: 9",
            "run.yaml:8: recipe.crop: 9 is larger than data.image_size, 8",
        ),
        (
            "seed: 3",
            "seed: 3\nobjectives: [nodes]",
            "run.yaml:4: objectives: expected either accuracy or loss among them, got nodes",
        ),
        (
            "seed: 3",
            "seed: 3\nobjectives: []",
            "run.yaml:4: objectives: expected either accuracy or loss among them, got none",
        ),
        (
            "seed: 3",
            "seed: 3\nworkers: {device: cpu}\nexecution:\n  cuda_graphs: true",
            "run.yaml:6: execution.cuda_graphs: true, but workers.device is cpu; expected false, or auto or cuda",
        ),
    ],
)
def test_contradictions_between_places_point_at_one_of_them(old: str, new: str, message: str) -> None:
    assert complaint(changed(old, new)) == message


def test_contradictions_say_what_contradicts_what() -> None:
    """As above, whatever the line."""
    assert "gates: finite needs the layer alone and comes before stability" in complaint(
        changed("- depends_on_x", "- stability")
    )
    assert "quality after 21 steps, but recipe.steps is 20" in complaint(changed("{steps: 10,", "{steps: 21,"))
    assert "with 8, a site of 8 channels has 8 groups, so that ghw is hw" in complaint(
        changed("groups: 4", "groups: 8")
    )
    assert "9 is larger than data.image_size, 8" in complaint(changed("steps: 20", "crop: 9"))
    assert "with 4, a site of 7 channels has 1 group, so that ghw is chw" in complaint(changed("width: 8", "width: 7"))
    assert "objectives: expected either accuracy or loss among them, got nodes" in set_complaint("objectives=[nodes]")
    assert "objectives: expected either accuracy or loss among them, got none" in set_complaint("objectives=[]")


def test_no_proxies() -> None:
    head, _, rest = TEXT.partition("proxies:\n")
    tail = rest[rest.index("gates:") :]
    assert complaint(f"{head}{tail}") == "run.yaml:2: proxies: missing"
    assert complaint(f"{head}proxies: {{}}\n{tail}") == "run.yaml:10: proxies: expected at least one"
    assert complaint(f"{head}proxies:\n{tail}") == "run.yaml:10: proxies: expected keys and values, got null"


def test_a_proxy_has_a_name() -> None:
    for name in ("", " "):
        assert "a name is empty" in complaint(changed("  small:", f'  "{name}":'))


def test_an_empty_table_of_stages_is_no_network() -> None:
    text = TEXT.replace("    stages:\n      - {expand: 1, channels: 32, blocks: 1, stride: 2}\n", "    stages: []\n")
    assert complaint(text).startswith("run.yaml:19: proxies.rows.stages: ")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("{nodes: 6}", "{primitives: {add: 1}}", "run.yaml:4: space.primitives: "),
        ("seed: 3", "workers: {count: {}}", "run.yaml:3: workers.count: "),
        ("seed: 3", "execution: {compile_from_steps: [1]}", "run.yaml:3: execution.compile_from_steps: "),
        ("seed: 3", "workers: {count: atuo}", "run.yaml:3: workers.count: "),
    ],
)
def test_values_of_two_kinds_are_named_by_their_key(old: str, new: str, place: str) -> None:
    message = complaint(changed(old, new))
    assert message.startswith(place)
    assert " got " in message


@pytest.mark.parametrize("place", ["name: table", "seed: 3", "schedule: cosine", "- depends_on_x", "{nodes: 6}"])
def test_a_long_value_is_not_echoed(place: str) -> None:
    key = place.partition(":")[0]
    assert len(complaint(changed(place, f"{key}: {'x' * 20_000}" if ":" in place else "x" * 20_000))) <= 500
