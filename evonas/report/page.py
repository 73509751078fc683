"""A report: one HTML file that needs no network.

The page is a frame, a style sheet, scripts and one JSON value, gzipped and in base64, so that nothing in a record can
be taken for a tag or a script. A policy in its head lets the browser run these scripts alone, and fetch nothing.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import evonas
from evonas.files import expect_writable, write
from evonas.report.run_view import document
from evonas.run import Run
from evonas.search_space.errors import InputError

SCRIPTS = (
    "data.js",
    "filters.js",
    "plots.js",
    "panel.js",
    "starred.js",
    "page.js",
    "embedded.js",
)  # in the order in which they are read
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
    scripts = [plotly(), "\n".join(asset(name) for name in SCRIPTS)]
    return frame(
        title=", ".join(each["label"] for each in value["runs"]),
        scripts=[{"text": script} for script in scripts],
        policy=" ".join(f"'{_digest(script)}'" for script in scripts),
        data=packed(value),
    )


def frame(title: str, scripts: Sequence[Mapping[str, str]], policy: str = "", data: str = "") -> str:
    """The page without its content, which the scripts add: of `data`, or of what they fetch from the live page."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise InputError(NEEDED) from None
    environment = Environment(loader=PackageLoader("evonas.report", "web"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("frame.html").render(
        title=title,
        version=evonas.__version__,
        style=asset("page.css"),
        scripts=[{"src": "", "text": "", **each} for each in scripts],
        policy=policy,
        data=data,
    )


def plotly() -> str:
    """The library that draws the plots."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError(NEEDED) from None
    text: str = get_plotlyjs()
    return text


def asset(name: str) -> str:
    """A file of the page as text."""
    return files("evonas.report").joinpath("web", name).read_text(encoding="utf-8")


def packed(value: Any) -> str:
    """JSON, gzipped, in base64: letters, digits, +, / and = alone."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
