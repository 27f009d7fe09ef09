"""Load by ``wrk`` on a processor of its own, and what a process spent meanwhile."""

import asyncio
import os
import re
from pathlib import Path

import msgspec

_UNITS = {"us": 1.0, "ms": 1000.0, "s": 1_000_000.0}


class Load(msgspec.Struct, frozen=True):
    """What came of one run: requests per second, µs of the proxy's processor for each; µs of the median call,
    and of the longest.
    """

    rate: float
    cost: float
    p50: float
    longest: float


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
    before = spent(pid)
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
    used = spent(pid) - before
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", output), re.search(r"(\d+) requests in", output)
    half, longest = (
        re.search(r"50%\s+([\d.]+)(us|ms|s)\b", output),
        re.search(r"Latency(?:\s+[\d.]+\w+){2}\s+([\d.]+)(us|ms|s)\b", output),
    )
    if (
        rate is None
        or count is None
        or half is None
        or longest is None
        or "Non-2xx" in output
        or "Socket errors" in output
    ):
        raise AssertionError(output)
    return Load(float(rate[1]), used / int(count[1]) * 1e6, _microseconds(half), _microseconds(longest))


def _microseconds(found: re.Match[str]) -> float:
    return float(found[1]) * _UNITS[found[2]]


def spent(pid: int) -> float:
    """Seconds of processor time that the threads of the process have had."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text(encoding="utf-8").split()[0]) for each in threads) / 1e9


def resident(pid: int) -> float:
    """Megabytes in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
