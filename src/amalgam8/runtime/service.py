"""Runs a daemon: settings, logs, signals, one task group, and an orderly end.

``run`` is the only way in. SIGTERM and SIGINT cancel the main task, which then has END_WITHIN seconds to
tidy up. Mistakes of the user end with one line on standard error and exit code 2, never a traceback.
"""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from amalgam8.model.errors import A8Error, InvalidSetting
from amalgam8.runtime import logs
from amalgam8.runtime.settings import HelpWanted, load

T = TypeVar("T")

END_WITHIN = 4.5
"""Seconds from the signal to the end of the process, at the most."""

DESCRIPTORS = 65_536
"""Files and connections that a server may have open, where the system lets it."""
COLLECT_AFTER = (20_000, 20, 20)
"""Objects made and not freed, then collections of the next younger generation, in servers."""

_log = logs.Log("service")


def run(
    program: str,
    settings: type[T],
    main: Callable[[T, tuple[str, ...]], Coroutine[Any, Any, int]],
    *,
    argv: Sequence[str] | None = None,
    refused: Mapping[str, str] | None = None,
    command: str = "",
    fast: bool = False,
) -> int:
    """Load ``settings`` (which has ``log_level`` and ``log_format``), run ``main``, return the exit code.

    ``fast``: on uvloop and with as many descriptors as there may be, for servers; it is not worth its memory
    in a sidecar.
    """
    try:
        loaded, trailing = load(
            settings,
            program,
            sys.argv[1:] if argv is None else argv,
            os.environ,
            refused=refused,
            command=command,
        )
    except HelpWanted as wanted:
        sys.stdout.write(wanted.text + "\n")
        return 0
    except InvalidSetting as error:
        return _refuse(program, error)
    logs.configure(getattr(loaded, "log_level", "info"), getattr(loaded, "log_format", "text"))
    if fast:
        _take_descriptors()
        _collect_rarely()
    try:
        with asyncio.Runner(loop_factory=_uvloop() if fast else None) as runner:
            return runner.run(_until_signal(main(loaded, trailing)))
    except InvalidSetting as error:
        return _refuse(program, error)
    except BaseExceptionGroup as group:
        if (setting := _only(group, InvalidSetting)) is not None:
            return _refuse(program, setting)
        _log.error("the daemon failed", exc_info=group)
        return 1
    except A8Error as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1


def _take_descriptors() -> None:
    """Each connection needs one, and processes begin with 1024 mostly, whatever they may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop  # only servers pay for it

    return uvloop.new_event_loop


def _collect_rarely() -> None:
    """Look for cyclic garbage less often than Python would by itself.

    A server keeps very many objects, which are looked at over and over, and makes hardly any garbage of that
    kind: what ends is freed as its last reference goes. What was loaded until now is never looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


async def _until_signal(main: Coroutine[Any, Any, int]) -> int:
    """Run ``main``; a signal cancels it, and a second one, or END_WITHIN, ends the process at once."""
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()
    asked: list[signal.Signals] = []

    def ask(number: signal.Signals) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)
        _log.info("ending", signal=number.name)
        loop.call_later(END_WITHIN, os._exit, 1)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not asked:
            raise
        return 0


def _refuse(program: str, error: InvalidSetting) -> int:
    sys.stderr.write(f"{program}: {error}\n")
    return 2


def _only(group: BaseExceptionGroup[BaseException], kind: type[InvalidSetting]) -> InvalidSetting | None:
    matched, _ = group.split(kind)
    while matched is not None:
        first = matched.exceptions[0]
        if isinstance(first, InvalidSetting):
            return first
        matched = first if isinstance(first, BaseExceptionGroup) else None
    return None
