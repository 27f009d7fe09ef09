"""What the agent does for the access records: rotation by size, and records of traced calls.

Envoy writes the records. Here the file is put aside when it has grown, and Envoy opens a new one; KEPT
older ones stay. Records of traced calls come in a file of their own: they are read, each trace is put
under its own name, they join the others, and the newest stay in a ring. Nothing is on the way of a call.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.model.errors import Unreachable
from amalgam8.sidecar.envoy.record import TRACES

KEPT = 2
RING = 1000
"""So many traced calls are remembered."""

CHECK = 0.25
"""Seconds between looks at the files."""

SPOOL_BYTES = 4 * 1024 * 1024
LINE_BYTES = 1024 * 1024

log = logging.getLogger("amalgam8.records")


class Recorder:
    """``records`` None: no access log, and the ring all the same. ``reopen`` tells Envoy to open its files.

    ``size`` in bytes is how far the access log grows; all files together take KEPT + 1 times that.
    """

    def __init__(
        self, records: Path | None, traced: Path, size: int, reopen: Callable[[], Awaitable[object]]
    ) -> None:
        self._records = records
        self._traced = traced
        self._size = size
        self._reopen = reopen
        self._offset = 0
        self._rest = b""
        self.ring: deque[dict[str, Any]] = deque(maxlen=RING)

    async def run(self) -> None:
        """Returns only when cancelled.

        Records of traced calls that an agent left behind that was killed are taken in once more.
        """
        while True:
            await asyncio.sleep(CHECK)
            try:
                self._read(self._traced)
                if _size(self._traced) > SPOOL_BYTES:
                    await self._turn_spool()
                if self._records is not None and _size(self._records) > self._size:
                    await self._rotate(self._records)
            except (OSError, Unreachable) as error:
                log.warning("access records: %s", error)

    def close(self) -> None:
        """Take in what is left; Envoy has ended."""
        with contextlib.suppress(OSError):
            self._read(self._traced)
            self._traced.unlink(missing_ok=True)

    async def _rotate(self, records: Path) -> None:
        aside = [records.with_name(f"{records.name}.{number}") for number in range(1, KEPT + 1)]
        for older, newer in zip(reversed(aside), [*reversed(aside[:-1]), records], strict=True):
            if newer.exists():
                newer.replace(older)
        await self._reopen()

    async def _turn_spool(self) -> None:
        """Put the file aside first, so that nothing is lost that Envoy writes meanwhile."""
        aside = self._traced.with_name(self._traced.name + ".1")
        self._traced.replace(aside)
        await self._reopen()
        self._read(aside)
        aside.unlink()
        self._offset, self._rest = 0, b""

    def _read(self, path: Path) -> None:
        """Take in the lines that are new."""
        if _size(path) <= self._offset:
            return
        with path.open("rb") as file:
            file.seek(self._offset)
            while chunk := file.read(LINE_BYTES):
                self._offset += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                self._rest = self._rest if len(self._rest) <= LINE_BYTES else b""
                self._take(lines)

    def _take(self, lines: list[bytes]) -> None:
        spread: list[bytes] = []
        for line in lines:
            try:
                record = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError:
                log.warning("a record of a traced call cannot be read, %d bytes", len(line))
                continue
            record |= record.pop(TRACES, {})
            self.ring.append(record)
            spread.append(msgspec.json.encode(record) + b"\n")
        if spread and self._records is not None:
            with self._records.open("ab") as file:
                file.write(b"".join(spread))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
