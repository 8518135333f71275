"""What an engine or compiler process gives up before it touches foreign code.

The guest's sandbox is wasmtime's. This is the second wall, for the day the first one has a hole.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_OOM_SCORE = 500


def enter(parent: int) -> bool:
    """Die with the kernel (process ``parent``), never gain privileges, leave no core dump, and
    leave the network.

    True if the process is in a network namespace of its own, with no interface that is up: where
    the system forbids that to unprivileged processes, the guest still has no network, but the
    process has.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the whole group; the kernel decides
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the kernel is gone")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # If memory runs out, losing an engine is better than losing the kernel.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write(str(_OOM_SCORE))
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)
