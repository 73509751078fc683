"""Images of one colour a class, and what is said of bad data."""

from pathlib import Path

import pytest
from PIL import Image

from evonas.search_space.errors import InputError
from evonas.workers.data import load
from evonas.workers.protocol import Data

COLOURS = {"apple": (200, 30, 30), "berry": (20, 40, 220), "cherry": (90, 10, 60)}


def one_line(data_: Data) -> str:
    with pytest.raises(InputError) as caught:
        load(data_)
    message = str(caught.value)
    assert "\n" not in message
    return message


def paint(folder: Path, per_class: int = 4, size: tuple[int, int] = (8, 8), classes: int = 3) -> Path:
    """Images of one colour a class, in <folder>/<class>/<number>.png."""
    for name, colour in list(COLOURS.items())[:classes]:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            Image.new("RGB", size, colour).save(folder / name / f"{number}.png")
    return folder
