"""What an exception says of the machine, of memory and of the program."""

from pathlib import Path

import pytest
import torch

from evonas.workers.evaluation import evaluate
from evonas.workers.machine import crash
from evonas.workers.outcome import Crash, CrashKind
from evonas.workers.protocol import Job
from tests.workers.conftest import graph, protocol


class CompilerError(RuntimeError):
    """As torch's compiler keeps what it met."""

    def __init__(self, inner_exception: Exception) -> None:
        super().__init__(f"{type(inner_exception).__name__}: {inner_exception}")
        self.inner_exception = inner_exception


def raised_from(cause: Exception) -> Exception:
    """An error of the program that another one caused."""
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("backend failed") from error
    except RuntimeError as error:
        return error


def raised_from_none(handled: Exception) -> Exception:
    """An error of the program that has nothing to do with the one that was handled."""
    try:
        try:
            raise handled
        except Exception:
            raise ValueError("bug") from None
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (FileNotFoundError(2, "No such file or directory", "/cache/a.so"), "machine", "/cache/a.so"),
        (OSError(28, "No space left on device"), "machine", "No space left on device"),
        (raised_from(FileNotFoundError(2, "gone")), "machine", "FileNotFoundError: [Errno 2] gone"),
        (
            CompilerError(
                RuntimeError("C++ compile error\n\nCommand:\ng++ a.cpp\ncc1plus: a.cpp: No such file or directory")
            ),
            "machine",
            "CompilerError: cc1plus: a.cpp: No such file or directory",
        ),
        (ImportError("a.so: cannot open shared object file: No such file or directory"), "machine", "a.so"),
        (OSError(12, "Cannot allocate memory"), "out_of_memory", "Cannot allocate memory"),
        (MemoryError(), "out_of_memory", "MemoryError"),
        (raised_from(torch.OutOfMemoryError("CUDA out of memory.\nGPU 0")), "out_of_memory", "CUDA out of memory."),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error", "RuntimeError: mat1 and mat2"),
        (raised_from_none(FileNotFoundError(2, "No such file or directory")), "error", "ValueError: bug"),
        (raised_from_none(MemoryError()), "error", "ValueError: bug"),
        (raised_from(ZeroDivisionError("bug")), "error", "RuntimeError: backend failed"),
        (CompilerError(ValueError("a compiler's own mistake")), "error", "CompilerError: "),
    ],
)
def test_an_exception_is_the_machines_the_memorys_or_the_programs(error: Exception, kind: str, message: str) -> None:
    found = crash(error)
    assert found.kind == CrashKind(kind)
    assert message in found.message
    assert "\n" not in found.message


def test_a_chain_that_is_a_circle_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert crash(first).kind == CrashKind.ERROR


def test_a_compiler_cache_that_is_wiped_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is where the cache was: nothing can be written there, as when another process wipes it again and again."""
    torch.compiler.reset()  # loads the compiler, which asks for its cache, too
    cache = tmp_path / "cache"
    cache.touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    compiled = protocol(proxies=("resnet",), execution={"compile_from_steps": 1}, recipe={"steps": 1})
    outcome = evaluate(Job(graph=str(graph("BN-SiLU")), protocol=compiled, seed=0)).outcome
    assert isinstance(outcome, Crash)
    assert outcome == Crash(CrashKind.MACHINE, f"FileExistsError: [Errno 17] File exists: '{cache}'")
