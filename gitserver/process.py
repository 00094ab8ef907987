"""What a process asks of the kernel before it does anything else."""

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends, however that happens.

    Args:
        parent: the parent's process id where the child knows it. If it is gone already, this process ends at once.

    Raises:
        OSError: the kernel does not do that.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        reason = ctypes.get_errno()
        raise OSError(reason, f"prctl(PR_SET_PDEATHSIG): {os.strerror(reason)}")
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def leave_no_core() -> None:
    """Have the kernel keep the memory of this process, and of its children, out of core files.

    In memory is what the disk must not hold: data keys, passwords, what is pushed. The limit alone is not enough,
    since the kernel does not ask it where cores are piped to a program; so no memory is chosen for them either.

    Source: core(5), "Controlling which mappings are written to the core dump".
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError):  # a kernel that writes no cores, or a container without /proc
        Path("/proc/self/coredump_filter").write_text("0")
