"""Becomes the app's command, bound to the life of the sidecar that starts it.

A program of its own, run as ``python -I -S launch.py PARENT COMMAND...`` in the new process: asking the
kernel to end the app with the sidecar (PR_SET_PDEATHSIG) from between fork and exec would run Python in
a copy of a process with threads, which can hang. Costs some 20 ms once. Imports nothing of the project.
"""

import ctypes
import os
import signal
import sys

NOT_FOUND = 127
NOT_STARTABLE = 126
"""Exit codes of a command that is not there or cannot be started, as shells have them."""

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
    """Never returns where the command can be started; else the exit code."""
    parent, command = int(argv[1]), argv[2:]
    if not _bound_to(parent):
        return 128 + signal.SIGTERM
    try:
        os.execvp(command[0], command)  # noqa: S606 - to run the user's command is what it is for
    except FileNotFoundError as error:
        code, reason = NOT_FOUND, error.strerror
    except OSError as error:
        code, reason = NOT_STARTABLE, error.strerror
    sys.stderr.write(f"a8sidecar: cannot start {command[0]}: {reason}\n")
    return code


def _bound_to(parent: int) -> bool:
    """End with ``parent`` from now on; False where it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main(sys.argv))
