"""A config as text, changes of it, and what is said of a bad one."""

import pytest

from evonas.config_file import parse_config
from evonas.search_space.errors import InputError

TEXT = """\
# line 1
name: table
seed: 3
space: {nodes: 6}
data: {image_size: 8, train: 256, validation: 100}
recipe:
  steps: 20
  learning_rate: 0.1
  schedule: cosine
proxies:
  small:
    architecture: preact_resnet
    width: 8
    blocks: [1, 1]
    groups: 4
  rows:
    architecture: mobilenet_v2
    width: 0.25
    stages:
      - {expand: 1, channels: 32, blocks: 1, stride: 2}
gates:
  - depends_on_x
  - finite:
  - quality: {steps: 10, of_baseline: 0.5}
  - stability:
      steps: 5
evolution:
  births: 10
  tournament_share: 0.1
  rerank: {top: 1}
"""


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def complaint(text: str, *settings: str) -> str:
    """The one line that is said of a bad config."""
    with pytest.raises(InputError) as caught:
        parse_config(text, "run.yaml", settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def set_complaint(*settings: str) -> str:
    return complaint(TEXT, *settings)
