"""Every state in which a process can leave a folder: the folder is copied at each system call of a traced process.

A killed process loses its locks and nothing that it has written, so a kill at the n-th system call leaves exactly the
n-th copy, whichever signal killed it.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

TRACEME, SYSCALL, SETOPTIONS = 0, 24, 0x4200  # of ptrace(2)
KILL_WITH_TRACER = 0x100000
_PRELUDE = f"""
import ctypes, os, signal, sys
def trace():
    if ctypes.CDLL(None, use_errno=True).ptrace({TRACEME}, 0, None, None) != 0:
        sys.exit(77)
    os.kill(os.getpid(), signal.SIGSTOP)
"""

State = dict[str, bytes]


class NotTraceable(Exception):
    """This machine does not let a process trace its child."""


def states(code: str, folder: Path) -> list[State]:
    """The distinct states of `folder`, in their order, while Python runs `code`, which calls `trace()` once it has
    imported what it needs. Raises NotTraceable, and RuntimeError where the code fails."""
    if not sys.platform.startswith("linux"):
        raise NotTraceable
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    found: list[State] = []
    with subprocess.Popen([sys.executable, "-c", _PRELUDE + code], stderr=subprocess.PIPE, text=True) as process:
        _, status = os.waitpid(process.pid, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 77:
            process.returncode = 77
            raise NotTraceable
        libc.ptrace(SETOPTIONS, process.pid, None, KILL_WITH_TRACER)
        seen, deliver = None, 0
        while os.WIFSTOPPED(status):
            if (signature := _signature(folder)) != seen:
                seen = signature
                state = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
                if not found or state != found[-1]:
                    found.append(state)
            libc.ptrace(SYSCALL, process.pid, None, deliver or None)
            _, status = os.waitpid(process.pid, 0)
            stopped_by = os.WSTOPSIG(status) if os.WIFSTOPPED(status) else 0
            deliver = 0 if stopped_by in (signal.SIGTRAP, signal.SIGSTOP) else stopped_by
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            assert process.stderr is not None
            raise RuntimeError(process.stderr.read())
    return found


def _signature(folder: Path) -> list[tuple[str, int, int, int]]:
    with os.scandir(folder) as entries:
        return sorted((e.name, (s := e.stat()).st_size, s.st_mtime_ns, s.st_ino) for e in entries)


def put(state: State, folder: Path) -> Path:
    """A folder in this state."""
    folder.mkdir(parents=True)
    for name, content in state.items():
        (folder / name).write_bytes(content)
    return folder
