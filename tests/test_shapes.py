"""Every module whose types tell shapes is checked while tests run, or a test checks a copy of it."""

import re

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from evonas.search_space.significant import significant
from tests.conftest import ROOT
from tests.evonas.test_house import FILES, imported, name
from tests.shapes import CHECKED, checked


def test_every_module_with_shapes_in_its_types_is_checked() -> None:
    files = {name(path) for path in FILES if "jaxtyping" in imported(path)}
    assert len(files) > 10  # so that a blind parser would be seen
    modules = {f"evonas.{file.removesuffix('.py').removeprefix('evonas/').replace('/', '.')}" for file in files}
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    copied = tuple(each for text in tests for each in re.findall(r'checked\("([a-z_.]+)"\)', text))
    copies = {module for module in modules if any(f"{module}.".startswith(f"{each}.") for each in copied)}
    assert modules - copies == set(CHECKED)


def test_the_rounding_of_digests_keeps_the_shapes_in_its_types() -> None:
    copy = checked("evonas.search_space.significant")
    values = np.array([[1.0, -2.5, np.inf], [0.0, 1e-300, np.nan]])
    assert copy.significant(values.copy()).tolist() == significant(values.copy()).tolist()
    with pytest.raises(TypeCheckError, match="'values'"):
        copy.significant(np.ones(3))
