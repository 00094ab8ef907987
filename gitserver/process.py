"""What a child process asks of the kernel before it does anything else."""

import ctypes
import os
import signal

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
