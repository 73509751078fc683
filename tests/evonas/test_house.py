"""The house: imports run one way, doors stay shut, and what a repository needs is there."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PACKAGES = ("search_space", "workers", "evonas")  # the folders
LINKED = ("search_space", "workers")  # in evonas, under whose name they are installed
FILES = tuple(sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")))
LINES_MAX = 300
LONGER = {  # file -> why it stays one
    "evonas/report/layout.py": "one algorithm",
}
PACKAGE_OF = {"yaml": "pyyaml", "sklearn": "scikit-learn"}  # where the distribution has another name than its module
SOURCE_OF_CODE = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}  # what makes code of stored bytes


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, anywhere in it; relative ones made absolute."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join((*above, *filter(None, [node.module])))
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            yield "".join(str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant)) or "<computed>"


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def top(module: str) -> str:
    """Its distribution's module, or of evonas' own the folder that it is in."""
    first, *others = module.split(".")
    return others[0] if first == "evonas" and others and others[0] in LINKED else first


def importers(*modules: str) -> set[str]:
    """The files that import one of these top-level modules."""
    return {name(path) for path in FILES if any(top(each) in modules for each in imported(path))}


def inside(files: set[str], *places: str) -> set[str]:
    return {each for each in files if each.startswith(places)}


# --------------------------------------------------------------------------- imports


def test_every_package_is_looked_at() -> None:
    assert {name(path).split("/")[0] for path in FILES} == set(PACKAGES)
    assert len(FILES) > 30


def test_imports_run_one_way() -> None:
    assert inside(importers("workers", "evonas"), "search_space/") == set()
    assert inside(importers("evonas"), "workers/") == set()
    assert inside(importers("search_space"), "workers/")  # so that a blind parser would be seen


def edges(path: Path) -> set[str]:
    """The files that a file imports, at its head or later; not those that only a type checker reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for each in node.body
        for inner in ast.walk(each)
    }
    modules: set[str] = set()
    for node in ast.walk(tree):
        if node in of_types:
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, name(path)
            for alias in node.names:
                inner_module = f"{node.module}.{alias.name}"
                modules.add(inner_module if file_of(inner_module) else str(node.module))
    return {file for module in modules if (file := file_of(module))}


def file_of(module: str) -> str | None:
    """The file of a module of evonas' own; a package is its `__init__`."""
    place = ROOT / module.replace(".", "/")
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file() and path.resolve().is_relative_to(ROOT) and top(module) in PACKAGES:
            return path.resolve().relative_to(ROOT).as_posix()
    return None


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle, from its first file to the same again; empty where there is none."""
    done: set[str] = set()

    def look(at: str, way: list[str]) -> list[str]:
        if at in way:
            return [*way[way.index(at) :], at]
        if at not in done:
            for each in sorted(graph[at]):
                if found := look(each, [*way, at]):
                    return found
            done.add(at)
        return []

    return next((found for each in sorted(graph) if (found := look(each, []))), [])


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name(path): edges(path) for path in FILES}
    assert sum(map(len, graph.values())) > 300  # so that a blind parser would be seen
    assert circle(graph) == []


def test_the_search_for_circles_can_find_one() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_nothing_imports_by_a_computed_name() -> None:
    """But the commands and the public names, each when it is first used, the gates, one file each, and a user's own
    modules."""
    assert importers("<computed>") == {
        "evonas/__init__.py",
        "evonas/cli/main.py",
        "workers/gates/__init__.py",
        "workers/plugins.py",
    }


def test_the_lower_packages_are_known_by_one_name_alone() -> None:
    """A user's own `workers.py` and the installed package do not meet."""
    bare = {name(path) for path in FILES if any(each.split(".")[0] in LINKED for each in imported(path))}
    assert bare == set()
    for package in LINKED:
        assert (ROOT / "evonas" / package).readlink() == Path("..", package)


def test_ray_stays_behind_its_doors() -> None:
    assert importers("ray") == {"workers/ray_pool.py", "evonas/cluster.py"}


def test_sql_stays_in_the_store() -> None:
    found = importers("sqlalchemy", "alembic", "sqlite3")
    assert found
    assert found == inside(found, "evonas/store/")


def test_one_file_opens_engines() -> None:
    """And the database alone, with its schema, asks it to."""
    openers = {"create_engine": set[str](), "sqlite3.connect": set[str]()}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in openers:
                openers[ast.unparse(node.func)].add(name(path))
    assert set().union(*openers.values()) == {"evonas/store/engines.py"}
    users = {name(path) for path in FILES if "evonas.store.engines" in imported(path)}
    assert users == {"evonas/store/database.py", "evonas/store/schema.py"}


def test_the_command_line_libraries_stay_in_its_room() -> None:
    found = importers("typer", "click", "rich")
    assert found
    assert found == inside(found, "evonas/cli/")


def test_pictures_are_drawn_behind_one_door_and_only_when_asked_for() -> None:
    assert importers("matplotlib") == {"evonas/report/picture.py"}
    tree = ast.parse((ROOT / "evonas" / "report" / "picture.py").read_text(encoding="utf-8"))
    at_once = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
    assert "matplotlib" not in " ".join(map(ast.unparse, at_once))


def test_nobody_below_imports_the_command_line() -> None:
    users = {name(path) for path in FILES if any(each.startswith("evonas.cli") for each in imported(path))}
    assert users == inside(users, "evonas/cli/", "evonas/__main__.py")


def test_the_mathematics_knows_no_clock_network_database_or_global_random_state() -> None:
    assert inside(importers("time", "datetime", "socket", "urllib", "requests", "sqlite3"), "search_space/") == set()
    for path in (ROOT / "search_space").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert ast.unparse(node.func) not in ("random.random", "random.choice", "torch.manual_seed"), name(path)


# --------------------------------------------------------------------------- text is never code


def test_nothing_is_evaluated_as_code() -> None:
    calls = {
        f"{name(path)}:{node.lineno}: {ast.unparse(node.func)}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("eval", "exec", "compile", "builtins.eval", "builtins.exec", "torch.load")
    }
    assert calls == set()


def test_nothing_is_unpickled() -> None:
    assert importers(*SOURCE_OF_CODE) == set()


def test_the_search_for_calls_can_find_one() -> None:
    tree = ast.parse("def f():\n    return eval('1')\nre.compile('a')")
    assert [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)] == ["re.compile", "eval"]


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("package", PACKAGES)
def test_files_can_be_read_in_one_sitting(package: str) -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {file for file, count in lines.items() if file.startswith(f"{package}/") and count > LINES_MAX}
    assert long - set(LONGER) == set()


def test_every_module_says_what_it_is() -> None:
    silent = [name(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert [each for each in silent if "/migrations/" not in each] == []


@pytest.mark.parametrize(
    "file", ["CHANGELOG.md", "LICENSE", "README.md", ".gitignore", ".pre-commit-config.yaml", ".ci/run"]
)
def test_the_repository_has(file: str) -> None:
    assert (ROOT / file).read_text(encoding="utf-8").strip()


def test_the_licence_is_apaches() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0" in text
    assert pyproject()["project"]["license"] == "Apache-2.0"


@pytest.mark.parametrize("data", ["fashion_mnist", "moby_dick"])
def test_the_licence_of_shipped_data_travels_with_them(data: str) -> None:
    assert (ROOT / "workers" / data / "LICENSE").is_file()
    assert f"workers/{data}/LICENSE" in pyproject()["project"]["license-files"]


@pytest.mark.parametrize("target", ["search", "test", "check"])
def test_make_has(target: str) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", text, re.MULTILINE)
    assert target in re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)[0].split()


# --------------------------------------------------------------------------- dependencies


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements() -> list[str]:
    project, build = pyproject()["project"], pyproject()["build-system"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    return [*build["requires"], *project["dependencies"], *extras]


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_has_its_reason(requirement: str) -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if f'"{requirement}"' in line]
    assert re.search(r'"[\]]?,?\s+#\s*\S+', line), line


def test_no_dependency_pins_a_build() -> None:
    assert [each for each in requirements() if "==" in each or "+cu" in each or "+cpu" in each or "@" in each] == []


def test_every_import_is_a_declared_dependency() -> None:
    """What the packages import and neither Python nor they themselves have is named in pyproject.toml; what only an
    extra installs is imported where it is used, not at the head of a file."""
    project = pyproject()["project"]
    extras = {name: each for name, each in project["optional-dependencies"].items() if name not in ("test", "dev")}
    declared, optional = (
        {re.split(r"[<>=!\[ ]", each)[0].lower() for each in requirements}
        for requirements in (project["dependencies"], [each for extra in extras.values() for each in extra])
    )
    at_head = {
        top(module)
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in ([each.name for each in node.names] if isinstance(node, ast.Import) else [str(node.module)])
    }
    optional.discard(project["name"])  # an extra that takes another along
    assert at_head & optional == set()
    known = set(sys.stdlib_module_names) | {*PACKAGES, "<computed>"}
    used = {top(module) for path in FILES for module in imported(path)}
    assert {PACKAGE_OF.get(each, each) for each in used - known} - declared - optional == set()


PLURAL = re.compile(
    r" ((fresh|dead|live|earlier|more) )?"
    r"(arguments|births|CPUs|candidates|children|evaluations|gates|groups|layers|nodes|outcomes|proxies|runs|seeds|steps|"
    r"threads|trainings|workers)\b"
)


def plural_counts(source: str) -> list[str]:
    """What an f-string says after a value: a noun that is always plural, or an s that comes and goes."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant) and _may_be_one(value):
                    found += [each.group() for each in [PLURAL.match(str(after.value))] if each]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.left, ast.Constant):
            found += ["s"] * (node.left.value == "s")
    return found


def _may_be_one(value: ast.FormattedValue) -> bool:
    """Neither a CONSTANT nor a number with digits after its point."""
    return value.format_spec is None and not (isinstance(value.value, ast.Name) and value.value.id.isupper())


def test_one_helper_writes_counts_with_their_nouns() -> None:
    """Else 1 candidate is "1 candidates" wherever nobody thought of it."""
    assert {name(path): each for path in FILES if (each := plural_counts(path.read_text(encoding="utf-8")))} == {}


def test_the_search_for_plurals_finds_them() -> None:
    wrong = """f"{n} fresh seeds", f"of {n} births", f"{n} worker{'s' * (n > 1)}" """
    assert plural_counts(wrong) == [" fresh seeds", " births", "s"]
    assert plural_counts("""f"{n} seed", f"{n:.1f} steps", f"{MAX} nodes" """) == []
