"""Configs as YAML text: read with errors that point at the line, and written."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from evonas.config import Config
from evonas.config_errors import place_and_reason
from evonas.plain_yaml import CHARACTERS_MAX, DEPTH_MAX, Dumper, line_of, read
from evonas.search_space.catalog.named import NamedGraph, named_graph
from evonas.search_space.errors import InputError, did_you_mean, texts
from evonas.store.address import Address
from evonas.workers import plugins
from evonas.workers.sources import folder_of
from evonas.workers.text import folder_of_text

Resolve = Callable[[str], NamedGraph]  # how a layer is read: a name, a text, and perhaps RUN#BIRTH

MESSAGE_MAX = 500  # characters of what is said of a config


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Turn every exception into an InputError of one short line. All reading and writing of configs happens inside."""
    try:
        yield
    except InputError as error:
        raise InputError(_shortened(str(error))) from None
    except Exception as error:  # yaml, pydantic, torch and the system raise what cannot be listed
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(_shortened(f"{where}: no config that evonas reads: {reason}")) from error


def _shortened(message: str) -> str:
    line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in message[: 2 * MESSAGE_MAX])
    return line if len(line) <= MESSAGE_MAX else f"{line[: MESSAGE_MAX - 3]}..."


def dump_config(config: Config | Mapping[str, Any]) -> str:
    """Write a config as YAML that `parse_config` reads; the proxies keep their order. Raises InputError for a mapping
    whose values are not plain."""
    with _one_line("config"):
        if not isinstance(config, Config | Mapping):
            raise InputError(f"config: expected a YAML file, a mapping or a Config, found {type(config).__name__}")
        raw = config.model_dump(mode="json") if isinstance(config, Config) else dict(config)
        try:
            return yaml.dump(raw, Dumper=Dumper, sort_keys=False)
        except yaml.YAMLError as error:
            value = error.args[-1]
            raise InputError(
                f"config: {value!r:.60} of type {type(value).__name__} is no plain value; "
                "expected texts, numbers, lists and mappings"
            ) from None


def load_config(path: str | Path, settings: Sequence[str] = (), resolve: Resolve = named_graph) -> Config:
    """Read and validate a YAML file, with `key.key=value` settings laid over it. Raises InputError alone, in one line
    that says where, what was found and what was expected."""
    return parse_config(_text(path), str(path), settings, resolve, Path(path).parent)


def resolve_config(
    config: Config | Mapping[str, Any] | str | Path, settings: Sequence[str] = (), resolve: Resolve = named_graph
) -> tuple[Config, str]:
    """The config of a search from a YAML file, a mapping or a Config, with settings laid over it and absolute paths, so
    that the run can be read and resumed from any folder; and its text. Raises InputError as `load_config` does."""
    if isinstance(config, Config | Mapping):
        text, where, folder = dump_config(config), "config", Path()
    else:
        text, where, folder = _text(config), str(config), Path(config).parent
    config = parse_config(text, where, settings, resolve, folder)
    with _one_line(where):
        images, corpus, store = config.data, config.text, config.store
        if images.source != "embedded" and not images.is_own:
            images = images.model_copy(update={"path": str(folder_of(images).absolute())})
        if corpus.source == "folder":
            corpus = corpus.model_copy(update={"path": str(folder_of_text(corpus).absolute())})
        if store.url is not None:
            store = store.model_copy(update={"url": Address.of_url(store.url, None).absolute_url})
        config = config.model_copy(update={"data": images, "text": corpus, "store": store})
    return config, dump_config(config)


def _text(path: str | Path) -> str:
    with _one_line(str(path)):
        path = Path(path)
        if path.exists() and not path.is_file():  # a pipe that nobody writes to would be waited for
            kind = "a folder" if path.is_dir() else "a pipe" if path.is_fifo() else "a device or a socket"
            raise InputError(f"{path}: expected a YAML file, found {kind}")
        try:
            with path.open(encoding="utf-8") as file:
                return file.read(CHARACTERS_MAX + 1)
        except FileNotFoundError:
            beside = [str(each) for each in path.parent.glob("[!.]*.y*ml")] if path.parent.is_dir() else []
            raise InputError(f"{path}: no such file{did_you_mean(str(path), beside) if beside else ''}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from None
        except (OSError, ValueError) as error:  # a ValueError: a name with a null byte
            raise InputError(f"{path}: cannot be read ({error})") from None


def parse_config(
    text: str,
    where: str = "config",
    settings: Sequence[str] = (),
    resolve: Resolve = named_graph,
    folder: Path = Path(),
) -> Config:
    """Validate YAML text as `load_config` does; `where` names it in messages. The modules of plugins are looked for in
    `folder`, then in the working directory, then where the config itself says.

    An error is told of the setting that brought it: of the key that was set, or, where the setting contradicts another
    part of the config, of the last setting without which the config lacks this error. Else it is told of the line.
    """
    with _one_line(where):
        root, raw = read(text, where)
        if not isinstance(raw, dict) or root is None:
            raise InputError(f"{where}:1: expected keys such as name and proxies, found {type(raw).__name__}")
        keys, stages = [], [raw]  # stages[i]: the config with the first i settings
        for setting in texts("settings", settings):
            laid = copy.deepcopy(stages[-1])
            keys.append(_lay_over(laid, setting))
            stages.append(laid)
        plugins.look_in([folder, Path(), *_folders(stages[-1])])
        checked = _checked(stages[-1], resolve)
        if isinstance(checked, Config):
            return _with_plugins(checked)
        path, reason = checked
        dotted = ".".join(map(str, path))
        if any(f"{dotted}.".startswith(f"{key}.") for key in keys):
            raise InputError(f"--set {dotted}: {reason}")
        for key, before in zip(reversed(keys), reversed(stages[:-1]), strict=True):
            if _checked(before, resolve) != checked:
                raise InputError(f"{f'--set {key}: {dotted}'.rstrip(': ')}: {reason}")
        raise InputError(f"{f'{where}:{line_of(root, path)}: {dotted}'.rstrip(': ')}: {reason}")


def _checked(raw: dict[str, Any], resolve: Resolve) -> Config | tuple[list[str | int], str]:
    """The config, or the place and the reason of its first error."""
    try:
        return Config.model_validate_json(json.dumps(raw), context={"resolve": resolve, plugins.LOADS: True})
    except ValidationError as error:
        return place_and_reason(error, raw)


def _folders(raw: dict[str, Any]) -> Iterator[str]:
    """The folders of modules that a resolved config names."""
    written = raw.get("plugins")
    for each in written.values() if isinstance(written, dict) else ():
        if isinstance(each, dict) and isinstance(each.get("folder"), str):
            yield each["folder"]


def _with_plugins(config: Config) -> Config:
    """The config with the source of each module that it names. Raises InputError where it expects another one."""
    modules = dict.fromkeys(reference.partition(":")[0] for reference in config.references)
    plugins.check({name: config.plugins[name] for name in modules if name in config.plugins})
    return config.model_copy(update={"plugins": {name: plugins.identify(name) for name in modules}})


def _lay_over(raw: dict[str, Any], setting: str) -> str:
    """Lay `a.b=c` over the raw config, in place; return the key."""
    key, equals, value = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) > DEPTH_MAX:
        raise InputError(f"--set {setting}: expected key=value, such as evolution.births=100")
    _, parsed = read(value, f"--set {key}")
    place: Any = raw
    for part in parts[:-1]:
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        place = place[_key_in(place, part, key)]
    place[_key_in(place, parts[-1], key)] = parsed
    return ".".join(parts)


def _key_in(place: Any, part: str, key: str) -> str | int:
    if isinstance(place, dict):
        return part
    if isinstance(place, list) and part.isascii() and part.isdecimal() and int(part[:9]) < len(place):
        return int(part[:9])
    raise InputError(f"--set {key}: there is no '{part}' to set")
