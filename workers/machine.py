"""The machine under an evaluation: its conditions, its memory, and the failures that it alone explains."""

import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args

import torch

from evonas.search_space.errors import InputError, first_line
from evonas.search_space.wording import counted
from evonas.workers.outcome import Crash, CrashKind
from evonas.workers.protocol import Device

MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED")  # torch's words, on a CPU and on a GPU
FILES = (  # the system's words, in the messages of compilers and linkers
    "No such file or directory",
    "cannot open shared object file",
    "No space left on device",
    "Disk quota exceeded",
    "Too many open files",
    "Read-only file system",
    "Stale file handle",
    "Input/output error",
)


def chosen(device: Device) -> str:
    """The device that a configured one is on this machine: `auto` is a GPU where torch finds one. Raises InputError for
    a GPU that is not there."""
    if device not in get_args(Device):
        raise InputError(f"device: expected {', '.join(get_args(Device))}, got {device!r:.100}")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise InputError("device: cuda, but torch finds no GPU on this machine")
    return "cuda" if has_gpu and device != "cpu" else "cpu"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def conditions(device: str) -> str:
    """The conditions that decide an evaluation's bits on one type of machine: device, processor, threads, torch."""
    where = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    count = torch.get_num_threads()
    words = (platform.machine(), where, counted(count, "thread"), f"torch {torch.__version__}")
    return ", ".join((device, *words))


def make_deterministic(device: str) -> None:
    """Ask a GPU for deterministic operations in float32; one that has none warns. CPUs are deterministic."""
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def random_numbers(device: str, seed: int) -> Iterator[None]:
    """Seed torch's global generators for a while: what a network draws as it trains, such as dropout, is the job's."""
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


def forget_peak(device: str) -> None:
    """Start `peak_mb` anew, where the system can: Linux alone."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb(device: str = "cpu", process: int | str = "self") -> float:
    """Peak memory in MiB since `forget_peak`: of a process of this machine, or of this process on the GPU. 0 where it
    is not known."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    if process != "self":
        return 0.0
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def crash(error: BaseException) -> Crash:
    """The crash that an exception is: exhausted memory, a fault of the machine, or an error of the program.

    A layer opens no file. So whatever was raised because of an OSError, or says so in a compiler's words, is the
    machine's doing: a compiler cache that another process wiped, a full disk, a lost network file system.
    """
    for each in _chain(error):
        if isinstance(each, (MemoryError, torch.OutOfMemoryError)) or _line_with(MEMORY, each):
            return Crash(CrashKind.OUT_OF_MEMORY, first_line(each))
        if isinstance(each, OSError) or _line_with(FILES, each):
            return Crash(CrashKind.MACHINE, f"{type(each).__name__}: {_line_with(FILES, each) or first_line(each)}")
    return Crash(CrashKind.ERROR, f"{type(error).__name__}: {error}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that led to it. torch's compiler keeps its own as `inner_exception`."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            handled = None if each.__suppress_context__ else each.__context__  # `from None` says: not because of it
            waiting += [handled, each.__cause__, getattr(each, "inner_exception", None)]


def _line_with(phrases: tuple[str, ...], error: BaseException) -> str:
    """The first line of the message that has one of the phrases, or ""."""
    lines = str(error).splitlines()
    return next((line.strip()[:300] for line in lines if any(each in line for each in phrases)), "")
