"""nginx's figures under the project's names, the same as with the other proxy."""

import time
from pathlib import Path

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
}
"""Every figure: its kind and what it means."""

CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


async def metrics(socket: Path, started: float, restarts: int, pid: int | None) -> bytes:
    """All figures in the Prometheus text format; ``started`` by the monotonic clock.

    Raises:
        Unreachable: nginx does not answer.
    """
    status, body = await exchange(socket, "GET", "/figures")
    if status != 200:
        raise Unreachable(f"the proxy answers {status} to a question for its figures")
    pairs = (line.rpartition(" ") for line in body.decode().splitlines())
    found = {name: float(value) for name, _, value in pairs}
    _, connections = await exchange(socket, "GET", "/connections")
    values: dict[str, float] = {
        "a8_proxy_calls_active": max(found.get("writing", 0) - 1, 0),
        "a8_proxy_connections_total": float(connections.split()[7]),
        "a8_proxy_connections_active": max(found.get("active", 0) - 1, 0),
        "a8_proxy_uptime_seconds": round(time.monotonic() - started, 3),
        "a8_proxy_memory_bytes": _memory(pid),
        "a8_proxy_restarts_total": restarts,
    }
    lines = []
    for name, (kind, text) in HELP.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        if name in values:
            lines.append(f"{name} {values[name]:.15g}")
        else:
            lines += [f'{name}{{status="{c}"}} {found.get(c, 0):.15g}' for c in CLASSES]
    return ("\n".join(lines) + "\n").encode()


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
