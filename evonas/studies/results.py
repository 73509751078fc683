"""Results of a study that is run in pieces: a JSON line each, behind one that says what they are results of."""

import json
from pathlib import Path
from typing import Any

from evonas.config import Config
from evonas.search_space.errors import InputError

Row = dict[str, Any]


class ResultFile:
    """`rows` holds what the file has; `keep` adds a line. A line that was torn by a kill is dropped.

    Raises InputError where the file's results are of other `configs` or other arguments.
    """

    def __init__(self, path: Path, *configs: Config, **arguments: Any) -> None:
        self.path = path
        of: Any = [{"protocol": each.protocol.model_dump(mode="json"), "seed": each.seed} for each in configs]
        of = json.loads(json.dumps((of[0] if len(of) == 1 else {"configs": of}) | arguments))
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        if lines and lines[0] != {"of": of}:
            raise InputError(f"{path}: results of another config or other arguments; expected a new file")
        self.rows: list[Row] = lines[1:]
        if not lines:
            self._write({"of": of})

    def keep(self, row: Row) -> None:
        self.rows.append(row)
        self._write(row)

    def _write(self, row: Row) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
