"""Envoy's figures, asked for on its admin socket and given in our own names.

METRICS is the whole list: Envoy keeps no other statistic. Refuses to wait longer than TIMEOUT.
"""

import asyncio
import re
from collections import Counter, defaultdict
from pathlib import Path

import h11
import msgspec

from amalgam8.model.errors import Unreachable
from amalgam8.sidecar.envoy.record import PART, REASON_LETTERS
from amalgam8.sidecar.proxy import Demand

TIMEOUT = 2.0
PAUSE = 0.005
BODY_LIMIT = 4 * 1024 * 1024


class Metric(msgspec.Struct, frozen=True):
    """One exposed series: Envoy's ``stat`` as ``name`` with ``labels``."""

    stat: str
    name: str
    kind: str
    text: str
    labels: str = ""


_CALLS = "Calls answered, by status class; those that the mesh refused are among them."

METRICS = (
    *(
        Metric(f"http.main.downstream_rq_{c}xx", "a8_proxy_calls_total", "counter", _CALLS, f'status="{c}xx"')
        for c in range(1, 6)
    ),
    Metric("http.main.downstream_rq_active", "a8_proxy_calls_active", "gauge", "Calls under way."),
    Metric(
        "http.main.downstream_cx_total",
        "a8_proxy_connections_total",
        "counter",
        "Connections from apps, all.",
    ),
    Metric(
        "http.main.downstream_cx_active", "a8_proxy_connections_active", "gauge", "Connections from apps now."
    ),
    Metric("server.uptime", "a8_proxy_uptime_seconds", "gauge", "Age of the proxy process."),
    Metric("server.memory_allocated", "a8_proxy_memory_bytes", "gauge", "Memory in use by the proxy."),
)
"""Every metric that comes from Envoy, in the order shown."""

RESTARTS = Metric("", "a8_proxy_restarts_total", "counter", "How often the proxy process was started again.")

DROPPED = "server.dropped_stat_flushes"
"""Counts requests that came while Envoy was still putting histograms together for an earlier one."""

_ONLY_DROPPED = "&filter=%5Eserver%5C.dropped_stat_flushes$"

STATS = (*(metric.stat for metric in METRICS), DROPPED)
"""Envoy's names of the statistics to keep."""


async def metrics(socket: Path, restarts: int, more: tuple[Metric, ...] = ()) -> bytes:
    """All figures in the Prometheus text format; ``more`` are those that depend on the settings.

    Raises:
        Unreachable: Envoy does not answer.
    """
    await _put_together(socket)
    values = await _values(socket)
    values[RESTARTS.stat] = restarts
    own = text({name: value for name, value in values.items() if isinstance(value, int | float)}, more)
    return own + calls(await fetch(socket, "/stats?format=prometheus&filter=%5Ea8%5C."))


async def _put_together(socket: Path) -> None:
    """Have Envoy put histograms together, which it does behind each request for a figure.

    Raises:
        Unreachable: Envoy does not answer, or does not come to an end of it.
    """
    before: object = None
    try:
        async with asyncio.timeout(TIMEOUT):
            while (dropped := (await _values(socket, _ONLY_DROPPED)).get(DROPPED)) != before:
                before = dropped
                await asyncio.sleep(PAUSE)
    except TimeoutError as error:
        raise Unreachable("the proxy does not put its figures together") from error


async def _values(socket: Path, filtered: str = "") -> dict[str, object]:
    body = await fetch(socket, f"/stats?format=json{filtered}")
    try:
        found = msgspec.json.decode(body, type=_Stats)
    except msgspec.MsgspecError as error:
        raise Unreachable(f"the proxy's figures cannot be read: {error}") from error
    return {stat.name: stat.value for stat in found.stats if stat.name is not msgspec.UNSET}


def text(values: dict[str, float], more: tuple[Metric, ...] = ()) -> bytes:
    """Prometheus text of ``values`` by Envoy's names; what is missing is 0."""
    lines: list[str] = []
    last = ""
    for metric in (*METRICS, RESTARTS, *more):
        if metric.name != last:
            lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}"]
            last = metric.name
        labels = f"{{{metric.labels}}}" if metric.labels else ""
        lines.append(f"{metric.name}{labels} {values.get(metric.stat, 0)}")
    return ("\n".join(lines) + "\n").encode()


def calls(exposition: bytes) -> bytes:
    """Envoy's histograms of calls in our names: counts by version and class of status, and seconds."""
    counts: Counter[tuple[str, ...]] = Counter()
    times: dict[tuple[str, str], dict[tuple[str, str], float]] = defaultdict(lambda: defaultdict(float))
    for line in exposition.decode(errors="replace").splitlines():
        if not (found := _CALLED.fullmatch(line)):
            continue
        labels = dict(_LABEL.findall(found["labels"]))
        parts: list[str] = labels.get("call", "").split(PART)
        destination, chosen, told, code, reason = (*parts, *[""] * (5 - len(parts)))[:5]
        version = (told or chosen).partition(":")[2]
        value = float(found["value"])
        times[destination, version][found["part"], labels.get("le", "")] += value
        if found["part"] == "count":
            counts[destination, version, f"{code[:1]}xx", _REASONS.get(reason, "")] += int(value)
    lines = [f"# HELP {_CALLS_BY} Calls by destination, version, class of status and reason of a refusal."]
    lines.append(f"# TYPE {_CALLS_BY} counter")
    names = ("destination", "version", "status", "reason")
    for key, count in sorted(counts.items()):
        shown_labels = ",".join(f'{name}="{text}"' for name, text in zip(names, key, strict=True))
        lines.append(f"{_CALLS_BY}{{{shown_labels}}} {count}")
    lines += [f"# HELP {_TIMES} How long calls took.", f"# TYPE {_TIMES} histogram"]
    for (destination, version), sums in times.items():
        of = f'destination="{destination}",version="{version}"'
        for (part, edge), value in sums.items():
            le = f',le="{_seconds(edge)}"' if edge else ""
            shown = value / 1000 if part == "sum" else value
            lines.append(f"{_TIMES}_{part}{{{of}{le}}} {shown:.15g}")
    return ("\n".join(lines) + "\n").encode()


def _seconds(edge: str) -> str:
    """The edge of a bucket, which Envoy gives in milliseconds."""
    return edge if edge == "+Inf" else f"{float(edge) / 1000:g}"


async def demand(socket: Path) -> dict[str, Demand]:
    """Calls that came to limits of the fleet's budgets so far, by rule; may raise Unreachable."""
    found: dict[str, Demand] = {}
    exposition = await fetch(socket, "/stats?format=prometheus&filter=%5Ea8%5C.demand")
    for line in exposition.decode(errors="replace").splitlines():
        if (sample := _SAMPLE.fullmatch(line)) and sample["name"] == "envoy_a8_demand":
            labels = dict(_LABEL.findall(sample["labels"] or ""))
            rule = labels.get("rule", "").replace('\\"', '"').replace("\\\\", "\\")
            limited = _REASONS.get(labels.get("reason", "")) == "limited"
            calls, passed = int(float(sample["value"])), 0 if limited else int(float(sample["value"]))
            known = found.get(rule, Demand())
            found[rule] = Demand(known.calls + calls, known.passed + passed)
    return found


_CALLS_BY = "a8_proxy_requests_total"
_TIMES = "a8_proxy_request_duration_seconds"
_REASONS = {
    kind[:REASON_LETTERS].ljust(REASON_LETTERS, ";"): kind
    for kind in ("unknown", "unavailable", "denied", "limited")
}
_SAMPLE = re.compile(r"(?P<name>[a-z0-9_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_CALLED = re.compile(r"envoy_a8_duration_(?P<part>bucket|sum|count)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"')


class _Stat(msgspec.Struct):
    name: str | msgspec.UnsetType = msgspec.UNSET
    value: object = None


class _Stats(msgspec.Struct):
    stats: list[_Stat]


async def fetch(socket: Path, path: str, method: str = "GET") -> bytes:
    """Ask for ``path`` on the admin socket.

    Raises:
        Unreachable: no answer, or not 200.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _ask(socket, path, method)
    except (OSError, TimeoutError, h11.ProtocolError) as error:
        raise Unreachable(f"the proxy does not answer: {str(error) or 'timeout'}") from error


async def _ask(socket: Path, path: str, method: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        connection = h11.Connection(h11.CLIENT)
        request = h11.Request(
            method=method, target=path, headers=[("host", "admin"), ("connection", "close")]
        )
        writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response) and event.status_code != 200:
                raise Unreachable(f"the proxy answers {event.status_code} to {path}")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_LIMIT:
                    raise Unreachable(f"the proxy's answer is longer than {BODY_LIMIT} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif isinstance(event, h11.ConnectionClosed):
                raise Unreachable("the proxy closed the connection")
    finally:
        writer.close()
