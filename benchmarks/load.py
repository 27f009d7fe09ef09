"""Load by ``wrk`` on a processor of its own, and what a process spent meanwhile."""

import asyncio
import os
import re
from pathlib import Path

import msgspec

TICKS = os.sysconf("SC_CLK_TCK")
_UNITS = {"us": 1.0, "ms": 1000.0, "s": 1_000_000.0}


class Load(msgspec.Struct, frozen=True):
    """What came of one run: requests per second, µs of the proxy's processor for each, and of the median."""

    rate: float
    cost: float
    p50: float


async def load(
    port: int,
    pid: int,
    path: str,
    connections: int,
    seconds: float,
    headers: tuple[str, ...] = (),
    cpu: int = 1,
) -> Load:
    """Ask for ``path`` again and again on so many connections; ``pid`` is who spends the time.

    Raises:
        AssertionError: an answer was none of 2xx or 3xx, or wrk failed.
    """
    before = ticks(pid)
    given = [word for header in headers for word in ("-H", header)]
    command = [
        "taskset",
        "-c",
        str(cpu),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        *given,
    ]
    process = await asyncio.create_subprocess_exec(
        *command, f"http://127.0.0.1:{port}{path}", stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0].decode()
    spent = (ticks(pid) - before) / TICKS
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", output), re.search(r"(\d+) requests in", output)
    half = re.search(r"50%\s+([\d.]+)(us|ms|s)\b", output)
    if rate is None or count is None or half is None or "Non-2xx" in output or "Socket errors" in output:
        raise AssertionError(output)
    return Load(float(rate[1]), spent / int(count[1]) * 1e6, float(half[1]) * _UNITS[half[2]])


def ticks(pid: int) -> int:
    """Processor time that the process has had, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def resident(pid: int) -> float:
    """Megabytes in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
