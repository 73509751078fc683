"""A report: one HTML file that needs no network.

The page is a frame, a style sheet, scripts and one JSON value, gzipped and in base64, so that nothing in a record can
be taken for a tag or a script. A policy in its head lets the browser run these scripts alone, and fetch nothing.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from evonas.files import expect_writable, write
from evonas.report.run_view import document
from evonas.run import Run
from evonas.search_space.errors import InputError

SCRIPTS = ("data.js", "filters.js", "plots.js", "panel.js", "page.js")  # in the order in which they are read
NEEDED = "a report needs Plotly, Jinja2 and latex2mathml: pip install 'evonas[web]'"


def write_report(runs: Sequence[str | Path | Run] | str | Path | Run, path: str | Path) -> Path:
    """Write one HTML file on one run, or on several beside each other; return its path.

    It works offline and shows what the records hold, whatever the state of the run. Raises InputError for a run that
    cannot be read, for a path that cannot be written, and where the extra `web` is not installed.
    """
    expect_writable(path)
    write(path, html(document(runs)))
    return Path(path)


def html(value: dict[str, Any]) -> str:
    """The page of a `document`."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError(NEEDED) from None
    scripts = [get_plotlyjs(), "\n".join(asset(name) for name in SCRIPTS)]
    environment = Environment(loader=PackageLoader("evonas.report", "web"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html").render(
        title=", ".join(each["label"] for each in value["runs"]),
        version=value["evonas"],
        style=asset("page.css"),
        scripts=scripts,
        policy=" ".join(f"'{_digest(script)}'" for script in scripts),
        data=packed(value),
    )


def asset(name: str) -> str:
    """A file of the page as text."""
    return files("evonas.report").joinpath("web", name).read_text(encoding="utf-8")


def packed(value: Any) -> str:
    """JSON, gzipped, in base64: letters, digits, +, / and = alone."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
