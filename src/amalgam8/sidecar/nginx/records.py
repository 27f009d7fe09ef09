"""Reads back the access records of traced calls: those with a member that no other record has.

nginx writes the records itself, so nothing is kept here: what is asked for is looked up at the end of the
file. Refuses to read more than TAIL_BYTES. A record may hold bytes that are no UTF-8; they are replaced.
"""

from pathlib import Path
from typing import Any

import msgspec

TAIL_BYTES = 1024 * 1024
NEWEST = 1000

MEMBERS = frozenset(
    {
        *("status", "start_time", "request_time", "src", "dst", "module", "method", "protocol", "fault"),
        *("upstream_host", "bytes_received", "bytes_sent", "path", "user_agent", "x_forwarded"),
        *("request_id", "auth", "message", "rules"),
    }
)
"""What every record may have."""


def traced(file: Path) -> list[dict[str, Any]]:
    """The newest NEWEST records of traced calls, oldest first."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(max(size - TAIL_BYTES, 0))
            lines = opened.read(TAIL_BYTES).split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            record = msgspec.json.decode(line.decode(errors="replace"), type=dict[str, Any])
        except msgspec.MsgspecError:  # the first line may be cut, and the last is empty
            continue
        if not MEMBERS.issuperset(record):
            found.append(record)
    return found[-NEWEST:]
