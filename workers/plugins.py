"""Plugins: objects of a user's own modules, which a config names as `module:name`. Loading one runs its module.

A module is looked for among the installed packages first, then in the config's folder and the working directory. Its
source is identified by the digest of its file and of those that it imports from the same folder, by the statements
there. Databases are read without it.
"""

import ast
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module, invalidate_caches
from importlib.metadata import packages_distributions, version
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Annotated, Any

from pydantic import AfterValidator, Field, Tag, ValidationInfo

from evonas.search_space.errors import InputError, did_you_mean, short
from evonas.workers.frozen import Frozen, Name, Text

INSTALLED = ("site-packages", "dist-packages", Path(os.__file__).parent.name)  # folders of packages; Python's own
LOADS = "load_plugins"  # in the context of a validation that may run a user's modules
_IDENTIFIER = r"[^\W\d]\w*"
_REFERENCE = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}")


def _is_reference(text: str) -> str:
    if not _REFERENCE.fullmatch(text):
        raise ValueError(f"expected module:name, such as my_networks:resnet, got '{text}'")
    return text


Reference = Annotated[str, Field(max_length=200), AfterValidator(_is_reference)]
Own = Annotated[Reference, Tag("own")]


def kind_of(written: Any) -> str:
    """The tag of what a config names: `own` is a reference, `known` one of a list."""
    return "own" if isinstance(written, str) and ":" in written else "known"


def is_own(written: str) -> bool:
    """Whether a name of a config is a reference."""
    return kind_of(written) == "own"


class Plugin(Frozen):
    """The source of a module, as the run was begun with it."""

    digest: Text = Field(description="of the module's files")
    folder: Text = Field(description="where its imports start")
    version: Text | None = Field(None, description="of an installed package")


Plugins = Annotated[dict[Name, Plugin], Field(max_length=100)]  # by module


def is_loaded(reference: str) -> bool:
    """Whether this process has run the module of a reference."""
    return reference.partition(":")[0] in _imported


def may_load(info: ValidationInfo) -> bool:
    """Whether a validation may run a user's modules. That of a config from a database may not."""
    return bool(info.context and info.context.get(LOADS))


# --------------------------------------------------------------------------- modules


@dataclass(frozen=True, slots=True)
class _Source:
    """The files of a module below the folder where its imports start, and their digest."""

    folder: Path
    files: tuple[Path, ...]
    digest: str


_folders: list[str] = []  # where modules are looked for that are not installed
_added: list[str] = []  # of these, the ones that were appended to sys.path
_imported: dict[str, _Source] = {}  # as they were when this process imported them


def look_in(folders: Iterable[str | Path]) -> None:
    """Look for modules in these folders from now on. Modules that changed, or are others there, are imported anew."""
    _folders[:] = dict.fromkeys(str(Path(each).absolute()) for each in folders)
    before = set(_added)
    while _added:
        sys.path.remove(_added.pop())
    invalidate_caches()
    for name, source in list(_imported.items()):
        first = next((each for each in _folders if _is_in(Path(each), name)), None)
        is_elsewhere = str(source.folder) in before and first != str(source.folder)
        if is_elsewhere or _source(source.folder, name) != source:
            for loaded, module in list(sys.modules.items()):
                if Path(getattr(module, "__file__", None) or "") in source.files:
                    del sys.modules[loaded]
            del _imported[name]


def identify(module: str) -> Plugin:
    """Identify the source of a module that has been imported."""
    return _plugin(module, _imported[module])


def _plugin(module: str, source: _Source) -> Plugin:
    installed = source.folder.name in INSTALLED
    return Plugin(digest=source.digest, folder=str(source.folder), version=_version(module) if installed else None)


def _find(module: str) -> Plugin | None:
    """Identify the source that an import would run; None where it is found in another way than in a folder."""
    top = module.partition(".")[0]
    folders = [Path(each).absolute() for each in (*(each for each in sys.path if each not in _added), *_folders)]
    first = next((each for each in folders if _file(each, (top,))), None)
    folder = first or next((each for each in folders if (each / top).is_dir()), None)
    return _plugin(module, _source(folder, module)) if folder else None


def files(module: str) -> dict[str, Path]:
    """The files of a module that has been imported, by their path below the folder where its imports start; none of an
    installed package."""
    source = _imported[module]
    if source.folder.name in INSTALLED:
        return {}
    return {path.relative_to(source.folder).as_posix(): path for path in source.files}


def check(plugins: Mapping[str, Plugin]) -> None:
    """Import the modules of a run. Raises InputError where one is absent, or its source is another than the run's."""
    for name, expected in plugins.items():
        if name not in _imported or _imported[name].digest != expected.digest:
            look_in([expected.folder, *_folders, Path.cwd()])
        found = identify(name) if name in _imported else _find(name)  # nothing else than what the run knows is run
        if found is None:
            _import(name)
            found = identify(name)
        if found.digest != expected.digest:
            versions = f" (versions {expected.version} and {found.version})" if expected.version else ""
            raise InputError(
                f"plugins.{name}: the source in '{found.folder}' is {found.digest}, that of the run {expected.digest}"
                f"{versions}; restore it, or begin a new run without plugins.{name}"
            )
        _import(name)


def load(reference: str) -> Any:
    """The object that `module:name` stands for. Raises InputError where there is no such module or name, and where the
    module cannot be imported."""
    name, _, attribute = reference.partition(":")
    module = _import(name)
    if not hasattr(module, attribute):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        hint = did_you_mean(attribute, own)
        raise InputError(f"{reference}: {module.__file__ or name} has no '{attribute}'{hint}")
    return getattr(module, attribute)


def _import(name: str) -> ModuleType:
    if name in _imported and name in sys.modules:
        return sys.modules[name]
    for folder in _folders:
        if folder not in sys.path:
            sys.path.append(folder)
            _added.append(folder)
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:  # a module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise InputError(_absent(name)) from None
        raise InputError(f"{name}: importing it failed at {place(error)}") from error
    if not getattr(module, "__file__", None):
        raise InputError(f"{name}: expected a module with a file, found {module!r:.100}")
    path = Path(str(module.__file__)).absolute()
    _imported[name] = _source(path.parents[name.count(".") + (path.stem == "__init__")], name)
    return module


def _absent(name: str) -> str:
    near = [path.stem for folder in _folders for path in Path(folder).glob("*.py")]
    hint = did_you_mean(name, near)
    where = " and ".join(f"'{folder}'" for folder in _folders) or "any folder"
    return f"no module '{name}' is installed or in {where}{hint if hint.startswith('; did') else ''}"


def place(error: BaseException) -> str:
    """The file and line where an exception was raised, in a user's own module if it went through one; and its text."""
    if isinstance(error, SyntaxError) and error.filename:
        where, text = f"{error.filename}:{error.lineno}", error.msg
    else:
        frames = list(extract_tb(error.__traceback__))
        last = ([each for each in frames if _is_own(Path(each.filename))] or frames)[-1]
        where, text = f"{last.filename}:{last.lineno}", " ".join(str(error).split())
    return f"{where}: {type(error).__name__}: {short(text)}".rstrip(": ")


def _is_own(path: Path) -> bool:
    """Whether a file is a user's: neither evonas' own nor an installed package's."""
    places = [*_folders, *(str(source.folder) for source in _imported.values())]
    is_other = path.is_relative_to(Path(__file__).parents[1]) or any(part in INSTALLED for part in path.parts)
    return not is_other and any(path.is_relative_to(each) for each in places)


# --------------------------------------------------------------------------- identity


def _source(folder: Path, name: str) -> _Source:
    """The source of a module whose imports start in a folder."""
    files, digest = tuple(sorted(_files(folder, name))), hashlib.sha256()
    for path in files:
        text = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(text)}\n".encode() + text)
    return _Source(folder, files, digest.hexdigest()[:16])


def _is_in(folder: Path, name: str) -> bool:
    top = name.partition(".")[0]
    return _file(folder, (top,)) is not None or (folder / top).is_dir()


def _file(folder: Path, parts: Sequence[str]) -> Path | None:
    base = folder.joinpath(*parts)
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def _files(folder: Path, name: str) -> set[Path]:
    """The file of a module and those of the folder that it imports; of an installed package its own alone."""
    found = set[Path]()
    waiting, seen = [name], {"evonas"}
    while waiting:
        parts = waiting.pop().split(".")
        if folder.name in INSTALLED and parts[0] != name.partition(".")[0]:
            continue
        for depth in range(1, len(parts) + 1):  # a package's own file first
            module = ".".join(parts[:depth])
            if parts[0] == "evonas" or module in seen:
                continue
            seen.add(module)
            if path := _file(folder, parts[:depth]):
                found.add(path)
                waiting += _imports(path, parts[:depth] if path.name == "__init__.py" else parts[: depth - 1])
    return found


def _imports(path: Path, package: Sequence[str]) -> Iterator[str]:
    """The full names of the modules, and perhaps of other things, that a file's statements import."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


@lru_cache
def _version(module: str) -> str | None:
    """The version of the installed package that a module is part of."""
    names = packages_distributions().get(module.partition(".")[0])
    return version(names[0]) if names else None
