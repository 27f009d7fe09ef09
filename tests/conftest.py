"""Shared by all tests: waiting for conditions, free ports, goldens, and what hypothesis may take."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

T = TypeVar("T")

# Machines that run tests are busy: what takes long there says nothing about the code.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


# Whoever is run in the background by a shell ignores it, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-goldens", action="store_true", help="write goldens anew instead of comparing")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where A8_TEST_ALL is set, a test that is left out is a failure: nothing may be missing there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("A8_TEST_ALL") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("\ntests were left out, and A8_TEST_ALL is set: pytest -rs names them")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def rewrite_goldens(request: pytest.FixtureRequest) -> bool:
    """Whether goldens are to be written anew."""
    return bool(request.config.getoption("--rewrite-goldens"))


async def eventually(check: Callable[[], Awaitable[T | None]], *, within: float = 10.0, what: str = "") -> T:
    """Call ``check`` until it returns something true; fail after ``within`` seconds with its last answer."""
    limit = time.monotonic() + within
    while True:
        found = await check()
        if found:
            return found
        if time.monotonic() > limit:
            raise AssertionError(f"not within {within:g} s: {what or check}; last: {found!r}")
        await asyncio.sleep(0.01)


_given: set[int] = set()


def free_port() -> int:
    """A port that was free a moment ago, from the system; never the same one twice."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port
