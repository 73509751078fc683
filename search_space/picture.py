"""The picture of a graph in a notebook. This package draws nothing: evonas sets the painter when it is imported."""

from collections.abc import Callable
from typing import Any

svg: Callable[[Any], bytes] | None = None  # a graph -> an SVG file
