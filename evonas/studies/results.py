"""Results of a study that is run in pieces: a JSON line each, behind one that says what they are results of."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evonas.config import Config
from evonas.files import write
from evonas.search_space.errors import InputError, short

Row = dict[str, Any]
HEAD = '{"of": '  # the beginning of the first line


class ResultFile:
    """`rows` holds what the file has; `keep` adds a line. A line that was torn by a kill is dropped.

    Without `configs` each row says itself what it is a result of. Raises InputError where the file cannot be read or
    written, is no file of results, or has results of other `configs` or other arguments. Such a file is left as it is.
    """

    def __init__(self, path: Path, *configs: Config, **arguments: Any) -> None:
        self.path = path
        asked = [{"protocol": each.protocol.model_dump(mode="json"), "seed": each.seed} for each in configs]
        several = {"configs": asked} if asked else {}
        of = json.loads(json.dumps((asked[0] if len(asked) == 1 else several) | arguments))
        text = _read(path)
        complete = text[: text.rfind("\n") + 1]
        try:
            lines = [json.loads(line) for line in complete.splitlines()]
        except ValueError:
            lines = [None]
        if not (text.startswith(HEAD) or HEAD.startswith(text)) or not all(isinstance(each, dict) for each in lines):
            raise InputError(f"{path}: holds no results; expected a new file, or one of an earlier call")
        if lines and lines[0] != {"of": of}:
            raise InputError(f"{path}: results of another config or other arguments; expected a new file")
        if complete != text:
            write(path, complete)
        self.rows: list[Row] = lines[1:]
        if not lines:
            self._write({"of": of})

    def keep(self, row: Row) -> None:
        self.rows.append(row)
        self._write(row)

    @contextmanager
    def writing(self) -> Iterator[Callable[[object, Row], None]]:
        """As a place of trainings: a row says itself what it is a result of."""
        yield lambda _, row: self.keep(row)

    def _write(self, row: Row) -> None:
        write(self.path, json.dumps(row) + "\n", "a")


def _read(path: Path) -> str:
    """The text of a file, "" where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(f"{short(str(path))}: cannot be read ({error.strerror})") from None
    except ValueError:  # no text, or no name of a file
        where = repr(short(str(path)))
        raise InputError(f"{where}: holds no results; expected a new file, or one of an earlier call") from None
