"""Standard output and error that survive a closed pipe, a full device, a closed descriptor, and ASCII."""

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EBADF, EPIPE
from pathlib import Path
from typing import Any, TextIO

STANDARD_OUTPUT = Path("-")  # as the value of -o
CLOSED_PIPE = 128 + 13  # exit code of a process ended by SIGPIPE, as in `git log | head`
_ASCII = {"±": "+-", "×": "x", "·": "*", "√": "sqrt", "−": "-", "–": "-", "…": "...", "←": "<-", "→": "->"}  # noqa: RUF001


class OutputError(Exception):
    """The standard output cannot be written. Not an OSError: click and rich handle these in their own ways."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"the output cannot be written ({cause.strerror})")
        self.is_quiet = cause.errno == EPIPE  # whoever closed the pipe has read what they wanted
        self.exit_code = CLOSED_PIPE if self.is_quiet else 1


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make standard output and error print any text. Standard output raises only OutputError, also where it was closed
    before the start, as in GNU's tools: what was asked for is not there. Standard error raises nothing."""
    before = sys.stdout, sys.stderr
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # else the next opened file, perhaps a database, would get the descriptor of standard output
    os.close(descriptor)
    sys.stdout, sys.stderr = _stream(sys.stdout, 1), _stream(sys.stderr, 2)
    try:
        yield
    finally:
        with suppress(OutputError):
            sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _stream(stream: TextIO | None, descriptor: int) -> TextIO:
    try:
        sink = _Sink(stream.fileno() if stream else descriptor, is_silent=descriptor == 2, is_closed=not stream)
    except io.UnsupportedOperation:  # a buffer in memory, in tests
        assert stream
        return stream
    if stream:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(sink),
        encoding=stream.encoding if stream else "utf-8",
        errors="evonas.readable",
        line_buffering=descriptor == 2 or sink.isatty(),
    )


class _Sink(io.FileIO):
    """An open file descriptor. After a failed write, further writes (such as the flush at exit) do nothing."""

    def __init__(self, descriptor: int, *, is_silent: bool, is_closed: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._is_silent = is_silent
        self._is_closed = is_closed
        self._has_failed = False

    def write(self, data: Any) -> int:
        if not self._has_failed:
            try:
                if self._is_closed:
                    raise OSError(EBADF, os.strerror(EBADF))
                return super().write(data)
            except OSError as error:
                self._has_failed = True
                if not self._is_silent:
                    raise OutputError(error) from None
        return memoryview(data).nbytes


def readable(text: str, encoding: str) -> str:
    """The text with every character that the encoding lacks spelled out: ± as +-, σ as sigma, others as ?."""
    return text.encode(encoding, "evonas.readable").decode(encoding)


def _spelled(character: str) -> str:
    if character in _ASCII:
        return _ASCII[character]
    words = unicodedata.name(character, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        return words[words.index("LETTER") + 1].lower()
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _spell(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_spelled, error.object[error.start : error.end])), error.end


codecs.register_error("evonas.readable", _spell)
