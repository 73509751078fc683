"""docs/bring-your-own.md: its files are a search as they stand; and what is said where one of them is wrong."""

from pathlib import Path

import pytest
import torch
import yaml

from evonas.config_file import load_config
from evonas.driver import resume, search, try_plugins
from evonas.run import open_run
from evonas.search_space.errors import InputError
from evonas.workers import plugins
from evonas.workers.evaluation import evaluate
from evonas.workers.protocol import Job
from tests.evonas.own.own_cases import FILES, TINY, complaint


def test_the_page_has_the_files_of_a_search() -> None:
    assert list(FILES) == ["own.yaml", "my_data.py", "my_networks.py", "my_gates.py", "my_goals.py", "my_ops.py"]
    assert yaml.safe_load(FILES["own.yaml"])["name"] == "own"


def test_its_networks_are_what_it_says(folder: Path) -> None:
    config = load_config(folder / "own.yaml")
    assert try_plugins(config) == ["softsign", "small", "resnet18", "my_gates:Calm", "my_goals:worst"]
    assert list(config.plugins) == ["my_ops", "my_data", "my_networks", "my_gates", "my_goals"]


def test_a_search_goes_on_with_the_same_source_alone(folder: Path) -> None:
    settings = [*TINY, "evolution.warm_start=[EvoNorm-S0]"]
    text = yaml.safe_load(FILES["own.yaml"])
    del text["proxies"]["resnet18"]
    (folder / "own.yaml").write_text(yaml.safe_dump(text))
    run = search(folder / "own.yaml", folder / "run", settings=settings, progress=False)
    assert [len(each.accuracy) for each in run.top(1)] == [1]
    recorded = run.config.plugins["my_networks"]
    assert recorded.folder == str(folder)

    changed = FILES["my_networks.py"].replace("3, 2, 1", "5, 2, 2")
    (folder / "my_networks.py").write_text(changed)
    # what was recorded can be read
    plugins.look_in([])
    plugins._imported.clear()
    assert open_run(folder / "run").top(1)[0].formula == run.top(1)[0].formula
    assert resume(folder / "run", progress=False).finished  # nothing is left to do
    # a new run of the resolved config is refused, and one without `plugins` is not
    with pytest.raises(InputError, match=r"restore it, or begin a new run without plugins\.my_networks$"):
        load_config(folder / "run" / "config.yaml")
    assert load_config(folder / "own.yaml", settings).plugins["my_networks"].digest != recorded.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("my_networks:small", "my_network:small", "no module 'my_network' is installed or in '{folder}'"),
        ("my_networks:small", "my_networks:smal", "has no 'smal'; did you mean 'small'?"),
        ("my_networks:small", "my_networks.small:", "architecture: expected module:name, such as my_networks:resnet"),
        (
            "width: 16",
            "wdth: 16",
            "proxies.small.options.wdth: my_networks:small takes no 'wdth'; did you mean 'width'?",
        ),
        ("groups: 4", "group: 4", "proxies.small.group: unknown key; did you mean 'groups'?"),
        (
            "groups: 4",
            "groups: 16",
            "proxies.small.groups: with 16, a site of 16 channels has 16 groups, so that ghw is hw",
        ),
        ("width: 16", "width: -1", "my_networks:small: failed at {folder}/my_networks.py:"),
    ],
)
def test_what_is_wrong_in_the_config_is_one_line(folder: Path, old: str, new: str, message: str) -> None:
    assert FILES["own.yaml"].count(old) == 1
    (folder / "own.yaml").write_text(FILES["own.yaml"].replace(old, new))
    assert message.format(folder=folder) in complaint(folder)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "my_networks:small: expected a torch.nn.Module, got int"),
        ("return nn.Flatten()", "proxies.small: my_networks:small: 0 of 0 layers made by norm_act are used"),
        (
            "return nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.Linear(64, 3))",
            "proxies.small: my_networks:small: expected logits of shape (4, 10), got (4, 3)",
        ),
        (
            "return nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.Linear(65, 10))",
            "proxies.small: my_networks:small: failed at ",
        ),
        (
            "model = nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.Linear(64, 10))\n"
            "    model.other = norm_act(4)\n    model.forward = model[:3].forward\n    return model",
            "proxies.small: my_networks:small: 1 of 2 layers made by norm_act are used",
        ),
        (
            "model = nn.Linear(64, num_classes)\n"
            "    nn.init.constant_(model.weight, __import__('random').random())\n"
            "    return nn.Sequential(norm_act(in_channels), nn.Flatten(), model)",
            "proxies.small: my_networks:small: two networks of one seed differ; expected torch's generator alone",
        ),
    ],
)
def test_what_is_wrong_in_a_network_is_one_line(folder: Path, body: str, message: str) -> None:
    assert message in complaint_of(folder, body)


def complaint_of(folder: Path, body: str) -> str:
    """The complaint about a network whose function has this body; a step has 8,000 images of 8 x 8."""
    text = f"from torch import nn\n\n\ndef small(norm_act, num_classes, in_channels, width=8):\n    {body}\n"
    (folder / "my_networks.py").write_text(text)
    own = {"proxies": {"small": {"architecture": "my_networks:small"}}, "space": {"index_sets": ["hw"]}}
    own |= {"name": "own", "data": {"image_size": 8}, "recipe": {"batch_size": 8000}}
    (folder / "own.yaml").write_text(yaml.safe_dump(own))
    return complaint(folder)


LARGE = {
    "nn.Sequential(norm_act(1), nn.Flatten(), nn.Linear(64, 2 * 10**7), nn.Linear(2 * 10**7, 10))": (
        "my_networks:small: failed at {folder}/my_networks.py:5: InputError: a network of 1,280,000,002 parameters "
        "or more; expected at most 1,000,000,000"
    ),
    "nn.Sequential(*(norm_act(1) for _ in range(1001)), nn.Flatten(), nn.Linear(64, 10))": (
        "proxies.small: my_networks:small: a network of 1,001 layers; expected at most 1,000"
    ),
    "nn.Sequential(nn.Upsample(scale_factor=150), norm_act(1), nn.AvgPool2d(150), nn.Flatten(), nn.Linear(64, 10))": (
        "proxies.small: my_networks:small: a network of 11,520,000,000 values at its layers in a step of 8000 images; "
        "expected at most 10,000,000,000"
    ),
}


@pytest.mark.parametrize("body", LARGE)
def test_a_network_beyond_every_machine_is_one_line(folder: Path, body: str) -> None:
    assert complaint_of(folder, f"return {body}") == LARGE[body].format(folder=folder)


def test_a_network_beyond_this_machine_is_one_line(folder: Path) -> None:
    body = 'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")'
    said = "proxies.small: my_networks:small: this machine has too little memory for the network and 4 images"
    assert complaint_of(folder, body) == said


def test_dropout_is_the_jobs(folder: Path) -> None:
    text = (
        "from torch import nn\n\n\ndef small(norm_act, num_classes, in_channels, width=8):\n"
        "    return nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, num_classes))\n"
    )
    (folder / "my_networks.py").write_text(text)
    own = {"architecture": "my_networks:small"}
    (folder / "own.yaml").write_text(
        yaml.safe_dump(
            {"name": "own", "data": {"image_size": 8}, "proxies": {"small": own}, "space": {"index_sets": ["hw"]}}
        )
    )
    config = load_config(folder / "own.yaml", TINY)
    job = Job(graph="max(x, zero)", protocol=config.protocol, seed=0)
    first = evaluate(job)
    torch.manual_seed(5)
    again = evaluate(job)
    assert (first.outcome, first.points) == (again.outcome, again.points)
