"""Fixtures of the command line's tests."""

import io
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.cli.real import Real, real
from tests.cli.standin import Cli, StandIn, stand_in


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in list(os.environ):
        if name.startswith("A8_"):
            monkeypatch.delenv(name)


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with stand_in() as found:
        yield found


@pytest.fixture
def a8ctl(server: StandIn, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(server, capsys)


@pytest.fixture
async def mesh(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Real]:
    """A real controller, and the command line that asks it."""
    async with real(capsys) as found:
        yield found


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Makes standard input hold these bytes."""

    def give(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give
