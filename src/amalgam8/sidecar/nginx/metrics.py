"""nginx's figures under the project's names, the same as with the other proxy."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from amalgam8.model.errors import Unreachable
from amalgam8.sidecar.nginx.push import exchange

_CALLS = "Calls answered, by status class; those that the mesh refused are among them."

HELP = {
    "a8_proxy_calls_total": ("counter", _CALLS),
    "a8_proxy_calls_active": ("gauge", "Calls under way."),
    "a8_proxy_connections_total": ("counter", "Connections from apps, all."),
    "a8_proxy_connections_active": ("gauge", "Connections from apps now."),
    "a8_proxy_uptime_seconds": ("gauge", "Age of the proxy process."),
    "a8_proxy_memory_bytes": ("gauge", "Memory in use by the proxy."),
    "a8_proxy_restarts_total": ("counter", "How often the proxy process was started again."),
    "a8_proxy_requests_total": (
        "counter",
        "Calls by destination, version, class of status and reason of a refusal.",
    ),
    "a8_proxy_request_duration_seconds": ("histogram", "How long calls took."),
}
"""Every figure: its kind and what it means."""

CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")

EDGES = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000),
    *(10000, 30000, 60000, 300000, 600000, 1800000, 3600000),
)
"""Milliseconds up to which each part of the histogram counts; ``figures.lua`` counts by the same."""

_Sample = tuple[list[str | float], float]
_Counted = list[_Sample]


async def metrics(socket: Path, started: float, restarts: int, pid: int | None) -> bytes:
    """All figures in the Prometheus text format; ``started`` by the monotonic clock.

    Raises:
        Unreachable: nginx does not answer.
    """
    status, body = await exchange(socket, "GET", "/figures")
    if status != 200:
        raise Unreachable(f"the proxy answers {status} to a question for its figures")
    try:
        counted = [msgspec.json.decode(line, type=_Sample) for line in body.splitlines()]
    except msgspec.MsgspecError as error:
        raise Unreachable(f"the proxy's figures cannot be read: {error}") from error
    _, connections = await exchange(socket, "GET", "/connections")
    words = connections.split()
    values = {
        "a8_proxy_calls_active": max(float(words[13]) - 1, 0),
        "a8_proxy_connections_total": float(words[7]),
        "a8_proxy_connections_active": max(float(words[2]) - 1, 0),
        "a8_proxy_uptime_seconds": round(time.monotonic() - started, 3),
        "a8_proxy_memory_bytes": _memory(pid),
        "a8_proxy_restarts_total": restarts,
    }
    lines = [*_plain(values), *_classes(counted), *_requests(counted), *_durations(counted)]
    return ("\n".join(lines) + "\n").encode()


def _plain(values: dict[str, float]) -> Iterator[str]:
    for name, value in values.items():
        yield from _help(name)
        yield f"{name} {value:.15g}"


def _help(name: str) -> Iterator[str]:
    kind, text = HELP[name]
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _classes(counted: _Counted) -> Iterator[str]:
    found: Counter[str] = Counter()
    for labels, count in counted:
        if labels[0] == "calls":
            found[str(labels[3])] += int(count)
    yield from _help("a8_proxy_calls_total")
    yield from (f'a8_proxy_calls_total{{status="{each}"}} {found[each]}' for each in CLASSES)


def _requests(counted: _Counted) -> Iterator[str]:
    yield from _help("a8_proxy_requests_total")
    names = ("destination", "version", "status", "reason")
    for labels, count in sorted(counted, key=str):
        if labels[0] == "calls":
            yield f"a8_proxy_requests_total{{{_labels(zip(names, labels[1:], strict=True))}}} {count:.15g}"


def _durations(counted: _Counted) -> Iterator[str]:
    name = "a8_proxy_request_duration_seconds"
    yield from _help(name)
    times: dict[str, dict[float, float]] = {}
    sums: dict[str, float] = {}
    for labels, count in counted:
        if labels[0] == "times":
            times.setdefault(str(labels[1]), {})[float(labels[2])] = count
        elif labels[0] == "sum":
            sums[str(labels[1])] = count / 1000
    for destination, found in sorted(times.items()):
        total = 0.0
        for edge in (*EDGES, float("inf")):
            total += found.get(edge, 0)
            shown = "+Inf" if edge == float("inf") else f"{edge / 1000:g}"
            named = _labels((("destination", destination), ("le", shown)))
            yield f"{name}_bucket{{{named}}} {total:.15g}"
        named = _labels((("destination", destination),))
        yield f"{name}_sum{{{named}}} {sums.get(destination, 0):g}"
        yield f"{name}_count{{{named}}} {total:.15g}"


def _labels(pairs: Iterable[tuple[str, object]]) -> str:
    return ",".join(f'{name}="{_escaped(str(value))}"' for name, value in pairs)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _memory(master: int | None) -> float:
    """Resident bytes of the workers."""
    if master is None:
        return 0.0
    total = 0
    try:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        for child in children:
            total += int(Path(f"/proc/{child}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return float(total * 4096)
