"""Standard output and error for every command, whether they are a closed pipe, a full device, closed, or ASCII."""

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EPIPE
from typing import Any, TextIO

CLOSED_PIPE = 128 + 13  # the exit code of a process that SIGPIPE ends: what `git log | head` has
_ASCII = {"±": "+-", "×": "x", "·": "*", "√": "sqrt", "−": "-", "–": "-", "…": "...", "←": "<-", "→": "->"}  # noqa: RUF001


class OutputError(Exception):
    """The standard output cannot be written. It is no OSError, which click and rich would handle in their own ways."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"the output cannot be written ({cause.strerror})")
        self.is_quiet = cause.errno == EPIPE  # whoever closed the pipe has read what they wanted
        self.exit_code = CLOSED_PIPE if self.is_quiet else 1


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard output and error that print any text. The output fails with OutputError alone, the error output never;
    what was closed before the start leads nowhere."""
    before = sys.stdout, sys.stderr
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # else the next file that is opened, a database perhaps, would be the standard output of some library
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
        sink = _Sink(stream.fileno() if stream else descriptor, is_silent=descriptor == 2)
    except io.UnsupportedOperation:  # not of the system: a test's buffer in memory
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
    """An open file descriptor. After a failed write further ones, as at exit, do nothing."""

    def __init__(self, descriptor: int, *, is_silent: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._is_silent = is_silent
        self._has_failed = False

    def write(self, data: Any) -> int:
        if not self._has_failed:
            try:
                return super().write(data)
            except OSError as error:
                self._has_failed = True
                if not self._is_silent:
                    raise OutputError(error) from None
        return memoryview(data).nbytes


def readable(text: str, encoding: str) -> str:
    """The text with each character that the encoding lacks spelled out: ± as +-, σ as sigma, others as ?."""
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
