"""A new gate is one file in workers/gates/: nothing else knows the gates by name."""

import os
import shutil
import subprocess
import sys
from abc import abstractmethod
from pathlib import Path
from typing import Literal

import pytest

from evonas.search_space.screening import Screening
from evonas.workers.gates import check_kind
from evonas.workers.gates.base import Gate, LayerGate
from evonas.workers.outcome import Measurement
from tests.conftest import ROOT

FILES = Path(__file__).with_name("added_gates")


def test_a_gate_is_one_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "workers", tmp_path / "workers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "evonas", tmp_path / "evonas", symlinks=True)
    (tmp_path / "search_space").symlink_to(ROOT / "search_space")
    for file in FILES.glob("*.py"):
        shutil.copy(file, tmp_path / "workers" / "gates")
    script = [sys.executable, "-B", str(Path(__file__).with_name("one_file.py")), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert result.stdout == "the added gates are everywhere\n", result.stderr


def test_the_page_for_developers_has_one_of_these_files() -> None:
    page = (ROOT / "docs" / "developers" / "extend.md").read_text(encoding="utf-8")
    assert f"# workers/gates/few_nodes.py\n{(FILES / 'few_nodes.py').read_text(encoding='utf-8')}" in page


class Homeless(Gate):
    """Validates, but says not what it needs."""

    gate: Literal["homeless"] = "homeless"


class Unmeasured(LayerGate):
    """Says what it needs, but not how it measures."""

    gate: Literal["unmeasured"] = "unmeasured"

    @abstractmethod
    def measure(self, screening: Screening) -> Measurement: ...


@pytest.mark.parametrize("kind", [Homeless, Unmeasured])
def test_a_gate_that_nobody_would_ask_does_not_load(kind: type[Gate]) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__}: expected a class that derives from one of LayerGate, "):
        check_kind(kind)
