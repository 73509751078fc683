"""The documentation site: built strictly, complete, and silent on the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("mkdocs", reason="MkDocs is not installed: pip install '.[docs]'")
LOADS = re.compile(r"""(<(script|img|iframe|source)\b[^>]*?\bsrc=|<link\b[^>]*?\bhref=|url\()["']?(https?:)?//""")


@pytest.mark.long
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 30
    for page in [*pages, *(tmp_path / "site").rglob("*.css")]:
        text = page.read_text(encoding="utf-8")
        assert LOADS.search(text) is None, page
        assert page.suffix == ".css" or "arithmatex" not in text, page
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert 'id="search"' in commands
    assert "<math" in (tmp_path / "site" / "primitives.html").read_text(encoding="utf-8")
