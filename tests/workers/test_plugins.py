"""Plugins: how `module:name` is found, identified and refused."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evonas.search_space.errors import InputError
from evonas.workers import calls, plugins

HOSTS = """\
import helper


def small(norm_act, num_classes, in_channels, width=8):
    return helper.build(norm_act, width)


class Counted:
    def __init__(self, norm_act, num_classes, in_channels): ...


def positional(): ...


def needs(norm_act, num_classes, in_channels, *, depth): ...


number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of modules; afterwards none of them is known."""
    before = set(sys.modules)
    (tmp_path / "my_hosts.py").write_text(HOSTS)
    (tmp_path / "helper.py").write_text("def build(*given): return given\n")
    (tmp_path / "unrelated.py").write_text("1 / 0\n")
    plugins.look_in([tmp_path])
    yield tmp_path
    plugins.look_in([])
    for name in set(sys.modules) - before:
        if name in ("my_hosts", "helper", "my_package"):
            del sys.modules[name]
    plugins._imported.clear()


def complaint(reference: str) -> str:
    with pytest.raises(InputError) as caught:
        calls.check_call(reference, "architecture", ("norm_act",), ("num_classes", "in_channels"), {"width": 3})
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("architecture: ")


def test_a_reference_is_a_name_in_a_module(folder: Path) -> None:
    assert plugins.load("my_hosts:number") == 3
    assert plugins.load("my_hosts:small")("layer", 10, 3) == ("layer", 8)
    calls.check_call("my_hosts:small", "architecture", ("norm_act",), ("num_classes", "in_channels"), {"width": 3})


def test_the_source_is_the_file_and_what_it_imports_from_its_folder(folder: Path) -> None:
    plugins.load("my_hosts:small")
    plugin = plugins.identify("my_hosts")
    assert (plugin.folder, plugin.version) == (str(folder), None)
    assert plugins.files("my_hosts") == {name: folder / name for name in ("my_hosts.py", "helper.py")}
    for name, changes in (("unrelated.py", False), ("helper.py", True), ("my_hosts.py", True)):
        text = (folder / name).read_text()
        (folder / name).write_text(text + "# changed\n")
        plugins.look_in([folder])
        plugins.load("my_hosts:small")
        assert (plugins.identify("my_hosts").digest != plugin.digest) == changes, name
        (folder / name).write_text(text)
    plugins.look_in([folder])
    plugins.load("my_hosts:small")
    assert plugins.identify("my_hosts") == plugin


def test_a_package_is_its_files_and_their_relative_imports(folder: Path) -> None:
    files = {
        "my_package/__init__.py": "",
        "my_package/nets/__init__.py": "from .blocks import block\n",
        "my_package/nets/blocks.py": "from ..sizes import WIDTH\n\n\ndef block(): return WIDTH\n",
        "my_package/sizes.py": "WIDTH = 5\n",
        "my_package/other.py": "WIDTH = 6\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert plugins.load("my_package.nets:block")() == 5
    assert set(plugins.files("my_package.nets")) == set(files) - {"my_package/other.py"}
    assert plugins.identify("my_package.nets").folder == str(folder)


def test_an_installed_package_has_a_version_and_does_not_travel() -> None:
    from importlib.metadata import version

    plugins.load("yaml:safe_load")
    assert plugins.identify("yaml").version == version("pyyaml")
    assert plugins.files("yaml") == {}


def test_a_changed_module_is_imported_anew_and_a_run_refuses_it(folder: Path) -> None:
    plugins.load("my_hosts:number")
    recorded = {"my_hosts": plugins.identify("my_hosts")}
    plugins.check(recorded)
    (folder / "my_hosts.py").write_text(HOSTS.replace("number = 3", "number = 4"))
    plugins.look_in([folder])
    assert plugins.load("my_hosts:number") == 4
    now = plugins.identify("my_hosts").digest
    with pytest.raises(InputError) as caught:
        plugins.check(recorded)
    assert str(caught.value) == (
        f"plugins.my_hosts: the source in '{folder}' is {now}, that of the run {recorded['my_hosts'].digest}; "
        "restore it, or begin a new run without plugins.my_hosts"
    )


def test_two_configs_may_have_modules_of_one_name(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "my_hosts.py").write_text("number = 5\n")
    assert plugins.load("my_hosts:number") == 3
    recorded = {"my_hosts": plugins.identify("my_hosts")}
    plugins.look_in([other])
    assert plugins.load("my_hosts:number") == 5
    plugins.check(recorded)  # which finds it where the run did
    assert plugins.load("my_hosts:number") == 3
    plugins.look_in([])
    with pytest.raises(InputError, match="no module 'my_hosts' is installed or in any folder"):
        plugins.load("my_hosts:number")


def test_installed_modules_are_not_shadowed(folder: Path) -> None:
    (folder / "json.py").write_text("number = 3\n")
    assert complaint("json:number").startswith(f"json:number: {sys.modules['json'].__file__} has no 'number'")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("my_host:small", "no module 'my_host' is installed or in '{folder}'; did you mean 'my_hosts'?"),
        ("my_hosts.nets:small", "no module 'my_hosts.nets' is installed or in '{folder}'"),
        ("my_hosts:smal", "my_hosts:smal: {folder}/my_hosts.py has no 'smal'; did you mean 'small'?"),
        ("my_hosts:number", "my_hosts:number: expected a function, found int"),
        (
            "my_hosts:positional",
            "my_hosts:positional(): expected a function of (norm_act, num_classes, in_channels, ...)",
        ),
        ("my_hosts:Counted", "options.width: my_hosts:Counted takes no 'width'"),
        ("my_hosts:needs", "options.width: my_hosts:needs takes no 'width'; did you mean 'depth'?"),
        ("unrelated:small", "unrelated: importing it failed at {folder}/unrelated.py:1: ZeroDivisionError: "),
        ("lacks:small", "lacks: importing it failed at {folder}/lacks.py:1: ModuleNotFoundError: No module named 'no'"),
        ("broken:small", "broken: importing it failed at {folder}/broken.py:2: SyntaxError: "),
        ("leaves:small", "leaves: importing it failed at {folder}/leaves.py:1: SystemExit: 3"),
        ("itertools:chain", "itertools: expected a module with a file, found <module 'itertools' (built-in)>"),
    ],
)
def test_errors_are_one_line(folder: Path, reference: str, message: str) -> None:
    (folder / "lacks.py").write_text("import no\n")
    (folder / "broken.py").write_text("number = 3\nif:\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    assert complaint(reference).startswith(message.format(folder=folder))


def test_an_option_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="options: my_hosts:needs needs 'depth'"):
        calls.check_call("my_hosts:needs", "architecture", ("norm_act",), ("num_classes", "in_channels"), {})


def test_a_call_that_fails_names_the_line_of_the_users_module(folder: Path) -> None:
    (folder / "my_hosts.py").write_text("def fails(a):\n    return int('x' * a)\n")
    with pytest.raises(InputError) as caught:
        calls.called("my_hosts:fails", plugins.load("my_hosts:fails"), 2)
    literal = "ValueError: invalid literal for int() with base 10: 'xx'"
    assert str(caught.value) == f"my_hosts:fails: failed at {folder}/my_hosts.py:2: {literal}"
