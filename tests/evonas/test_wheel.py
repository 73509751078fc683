"""The wheel installs one package, which a user's own modules cannot shadow."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_one_top_level_package(installed: Path) -> None:
    assert [each.name for each in installed.iterdir() if each.suffix != ".dist-info"] == ["evonas"]
    assert not [each for each in installed.rglob("*") if each.is_symlink()]


def test_the_wheel_holds_the_page_of_a_report(installed: Path) -> None:
    place = Path("evonas", "report", "web")
    files = {each.name for each in (ROOT / place).iterdir()}
    assert {"frame.html", "page.css", "page.js"} <= files == {each.name for each in (installed / place).iterdir()}


def test_a_users_own_modules_do_not_meet_it(installed: Path, tmp_path: Path) -> None:
    for name in ("workers", "search_space", "data", "graph"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('this is the user's {name}.py')\n")
    script = (
        "import evonas, torch; layer = evonas.layer('EvoNorm-B0', 4); print(layer(torch.ones(2, 4, 3, 3)).shape[1]); "
        "from evonas.workers.data import load; from evonas.workers.protocol import Data; print(load(Data()).classes); "
        "print(evonas.__file__)"
    )
    path = [str(tmp_path), str(installed), *(each for each in sys.path if each.endswith("site-packages"))]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {script}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["4", "10", str(installed / "evonas" / "__init__.py")], done.stderr
