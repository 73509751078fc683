"""Hooks of MkDocs: pages made from the code, files from outside docs/, and formulas as MathML."""

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from reference import commands_page, config_page, python_page  # beside this file, where MkDocs looks for it

ROOT = Path(__file__).parents[2]
PAGES = {
    "reference/commands.md": commands_page,
    "reference/config.md": config_page,
    "reference/python.md": python_page,
}
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "results/*/*.md", "configs/*.yaml", "configs/clusters/*")


def on_config(config: Any) -> Any:
    """Each folder of results/ that has a README is a page."""
    results = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("results/*/README.md"))
    config.nav.append({"Results": results})
    return config


def on_files(files: Files, config: Any) -> Files:
    """The generated pages, and the files of the repository that pages link to."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """A link out of docs/ works on a code host as it stands; in the site these files are one folder nearer."""
    path = page.file.src_uri
    depth = path.count("/")
    if path == "CONTRIBUTING.md":
        return markdown.replace("](docs/", "](")
    if path.startswith(("results/", "CHANGELOG")):
        return markdown
    return markdown.replace("](" + "../" * (depth + 1), "](" + "../" * depth)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """LaTeX as MathML, which browsers draw without scripts or fonts."""
    return re.sub(
        r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>',
        lambda found: convert(_unescaped(found[2]), display="inline" if found[1] == "span" else "block"),
        html,
        flags=re.DOTALL,
    )


def _unescaped(html: str) -> str:
    return html.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
