"""What the agent does for the access records: rotation by size, and reading back those of traced calls.

The workers write all records, those of traced calls once more to a file of their own. A file that has grown
is put aside, and they go on with a new one: by themselves, but for records of TCP connections, of which
nginx has to be told. Refuses to read more than TAIL_BYTES back. A record may hold bytes that are no UTF-8;
they are replaced.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

KEPT = 2
"""Older files of access records that stay."""

CHECK = 0.25
"""Seconds between looks at the files."""

TAIL_BYTES = 1024 * 1024
NEWEST = 1000

log = logging.getLogger("amalgam8.records")


class Records:
    """``file`` None: there are no access records. ``size`` in bytes is how far each file grows."""

    def __init__(self, file: Path | None, traced: Path, size: int, reopen: Callable[[], None]) -> None:
        self._kept = {traced: 1} if file is None else {file: KEPT, traced: 1}
        self._limits = {traced: min(size, TAIL_BYTES)} | ({} if file is None else {file: size})
        self._traced = traced
        self._reopen = reopen

    async def run(self) -> None:
        """Returns only when cancelled."""
        while True:
            try:
                grown = [file for file, limit in self._limits.items() if _size(file) > limit]
                for file in grown:
                    _put_aside(file, self._kept[file])
                if grown:
                    self._reopen()
            except OSError as error:
                log.warning("access records: %s", error)
            await asyncio.sleep(CHECK)

    def traced(self) -> list[dict[str, Any]]:
        """The newest NEWEST records of traced calls, oldest first."""
        lines = [line for file in (_aside(self._traced, 1), self._traced) for line in _tail(file)]
        return list(_records(lines))[-NEWEST:]


def _put_aside(file: Path, kept: int) -> None:
    for number in range(kept, 0, -1):
        newer = _aside(file, number - 1) if number > 1 else file
        if newer.exists():
            newer.replace(_aside(file, number))


def _aside(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.{number}")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _tail(file: Path) -> list[bytes]:
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(max(size - TAIL_BYTES, 0))
            return opened.read(TAIL_BYTES).split(b"\n")
    except FileNotFoundError:
        return []


def _records(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield msgspec.json.decode(line.decode(errors="replace"), type=dict[str, Any])
        except msgspec.MsgspecError:  # the first line may be cut, and the last is empty
            continue
