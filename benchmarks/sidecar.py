"""The sidecar's Envoy against a hand-written static Envoy of one route, in one run, alternating.

Both have one worker, the same access record and the same statistics. The sidecar knows 50 services of 4
instances with 20 rules on the one that is called, then 1,000 services. Proxies run on one processor, the
backend (an Envoy that answers by itself) and ``wrk`` on the other. The ratio is of requests per second;
processor time per request, which other load disturbs less, stands beside it. Where an Envoy's memory happens
to lie makes two or three percent of its speed, so both are started several times.
"""

import asyncio
import contextlib
import json
import os
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from amalgam8.model.caller import caller
from amalgam8.model.instance import Endpoint, Instance, instance_id
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.resolve import Instances, resolve
from amalgam8.sidecar.envoy.adapter import Envoy
from amalgam8.sidecar.envoy.admin import STATS
from amalgam8.sidecar.envoy.bootstrap import BUCKETS
from amalgam8.sidecar.envoy.process import find_binary
from amalgam8.sidecar.proxy import Desired, Stamp
from benchmarks.figures import free_port, line

SECONDS = 2
PAIRS = 4
LAUNCHES = 4
SETTLED = 10
"""Seconds until an Envoy has put its memory in order after a start."""

PORTS = 4
AIM = 0.95
BODY = "x" * 100
TICKS = os.sysconf("SC_CLK_TCK")
_LOGGERS = "type.googleapis.com/envoy.extensions.access_loggers"


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    for services in (50, 1000):
        found: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(LAUNCHES):
            with tempfile.TemporaryDirectory() as name:
                await _launched(Path(name), services, found)
        for connections, ratios in found.items():
            rates, costs = zip(*ratios, strict=True)
            shown = f"{services} services, {connections} connections, as a part of static Envoy"
            yield line(f"{shown}: requests/s", statistics.median(rates), AIM, "×", at_most=False)
            yield line(f"{shown}: per processor second", statistics.median(costs), AIM, "×", at_most=False)


async def _launched(folder: Path, services: int, found: defaultdict[int, list[tuple[float, float]]]) -> None:
    """Add ratios of requests per second, and of requests per processor second, by number of connections."""
    ports = [free_port() for _ in range(PORTS)]
    async with (
        _process(folder, "backend", _backend(ports), cpu=1),
        static_envoy(folder, ports) as static,
        driven(folder / "sidecar", services, ports) as ours,
    ):
        await asyncio.sleep(SETTLED)
        for connections in (1, 32):
            for _ in range(PAIRS):
                rate, cost = await _load(*ours, "/svc0/x", connections)
                static_rate, static_cost = await _load(*static, "/svc0/x", connections)
                found[connections].append((rate / static_rate, static_cost / cost))


async def _load(port: int, pid: int, path: str, connections: int) -> tuple[float, float]:
    """Requests per second, and the proxy's processor time per request in microseconds."""
    before = _ticks(pid)
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}"]
    process = await asyncio.create_subprocess_exec(
        *command, f"http://127.0.0.1:{port}{path}", stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0].decode()
    spent = (_ticks(pid) - before) / TICKS
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", output), re.search(r"(\d+) requests in", output)
    if rate is None or count is None or "Non-2xx" in output:
        raise AssertionError(output)
    return float(rate[1]), spent / int(count[1]) * 1e6


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# -- the two proxies -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def driven(folder: Path, services: int, ports: list[int]) -> AsyncIterator[tuple[int, int]]:
    """The port and process of an Envoy that is driven as in a sidecar."""
    os.mkdir(folder, mode=0o700)
    port, web = free_port(), caller("web", ["v1"])
    proxy = Envoy(
        state_dir=folder, listen_host="127.0.0.1", http_port=port, own_service=web, access_log=folder / "log"
    )
    part = compile(read_list({"rules": list(rules())}), web)
    assert part is not None
    routing = resolve({"svc0": part}, instances(services, ports), 0)
    running = asyncio.ensure_future(proxy.run())
    try:
        proxy.desired.set(Desired(routing, Stamp()))
        async with asyncio.timeout(60):
            await proxy.confirmed.newer(0)
        confirmed, pid = proxy.confirmed.value, proxy.pid
        assert confirmed is not None
        assert pid is not None
        assert not confirmed.rejected, confirmed.rejected
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {0})
        yield port, pid
    finally:
        running.cancel()
        await asyncio.wait([running])


def rules() -> Iterator[dict[str, Any]]:
    """20 rules on svc0: 19 for users that do not come, and a split for everybody."""
    for i in range(19):
        yield {
            "id": f"user-{i}",
            "priority": 100 - i,
            "destination": "svc0",
            "match": {"headers": {"Cookie": f"^(.*?;)?(user=nobody{i})(;.*)?$"}},
            "route": {"backends": [{"tags": ["v1"]}]},
        }
    yield {
        "id": "split",
        "destination": "svc0",
        "route": {"backends": [{"tags": ["v1"], "weight": 0.25}, {"tags": ["v2"]}]},
    }


def instances(services: int, ports: list[int]) -> Instances:
    found = {}
    for i in range(services):
        name = f"svc{i}"
        endpoints = [Endpoint("http", f"127.0.0.1:{port}") for port in ports]
        found[name] = tuple(
            Instance(instance_id(name, endpoint), name, endpoint, status="UP", tags=(f"v{n % 2 + 1}",))
            for n, endpoint in enumerate(endpoints)
        )
    return found


@contextlib.asynccontextmanager
async def static_envoy(folder: Path, ports: list[int]) -> AsyncIterator[tuple[int, int]]:
    port = free_port()
    logs = [_counters(), _records(folder / "static.log")]
    route = {
        "match": {"prefix": "/svc0/"},
        "route": {"cluster": "svc0", "prefix_rewrite": "/", "timeout": "15s"},
    }
    endpoints = [
        {"endpoint": {"address": _address(each)}, "metadata": _named(f"svc0:v{n % 2 + 1}")}
        for n, each in enumerate(ports)
    ]
    cluster = {
        "name": "svc0",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "svc0", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    config = {
        "static_resources": {
            "listeners": [_listener(port, [route], logs, envoy_headers=True)],
            "clusters": [cluster],
        },
        "stats_config": {
            "use_all_default_tags": False,
            "histogram_bucket_settings": [{"match": {"prefix": "a8."}, "buckets": BUCKETS}],
            "stats_matcher": {
                "inclusion_list": {"patterns": [{"prefix": "a8."}, *({"exact": name} for name in STATS)]}
            },
        },
    }
    async with _process(folder, "static", config, cpu=0) as pid:
        yield port, pid


def _counters() -> dict[str, Any]:
    """Calls by destination, version, status and reason, and how long they took."""
    values = {
        "destination": "svc0",
        "instance": "%UPSTREAM_METADATA(a8:name)%",
        "code": "%RESPONSE_CODE%",
        "reason": "%RESP(X-A8-REASON):7%",
    }
    tags = [{"name": name, "value_format": value} for name, value in values.items()]
    return {
        "name": "counters",
        "typed_config": {
            "@type": f"{_LOGGERS}.stats.v3.Config",
            "stat_prefix": "a8",
            "counters": [{"stat": {"name": "requests", "tags": tags}, "value_fixed": 1}],
            "histograms": [
                {
                    "stat": {"name": "duration", "tags": tags[:1]},
                    "unit": "Milliseconds",
                    "value_format": "%DURATION%",
                }
            ],
        },
    }


def _records(path: Path) -> dict[str, Any]:
    """The members of a sidecar's access record, as somebody would write them for one route."""
    original = "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
    record = {
        "status": "%RESPONSE_CODE%",
        "start_time": "%START_TIME%",
        "request_time": "%DURATION%",
        "upstream_response_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
        "src": "web:v1",
        "dst": "%UPSTREAM_METADATA(a8:name)%",
        "message": f"%REQ(:METHOD)% {original} %RESPONSE_CODE%",
        "module": "ENVOY",
        "method": "%REQ(:METHOD)%",
        "path": original,
        "protocol": "%PROTOCOL%",
        "response_flags": "%RESPONSE_FLAGS%",
        "x_forwarded": "%REQ(X-FORWARDED-FOR)%",
        "user_agent": "%REQ(USER-AGENT)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "auth": "%REQ(:AUTHORITY)%",
        "upstream_host": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "fault": False,
    }
    return {
        "name": "records",
        "typed_config": {
            "@type": f"{_LOGGERS}.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": record, "omit_empty_values": True},
        },
    }


def _named(name: str) -> dict[str, Any]:
    return {"filter_metadata": {"a8": {"name": name}}}


def _backend(ports: list[int]) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": BODY}}}
    return {"static_resources": {"listeners": [_listener(port, [route], []) for port in ports]}}


def _listener(
    port: int, routes: list[Any], logs: list[Any], *, envoy_headers: bool = False
) -> dict[str, Any]:
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    network = "type.googleapis.com/envoy.extensions.filters.network"
    manager = {
        "@type": f"{network}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "main",
        "access_log": logs,
        "http_filters": [
            {"name": "router", "typed_config": {"@type": router, "suppress_envoy_headers": not envoy_headers}}
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    return {
        "name": f"l{port}",
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextlib.asynccontextmanager
async def _process(folder: Path, name: str, config: dict[str, Any], cpu: int) -> AsyncIterator[int]:
    """An Envoy of its own with a static configuration, on one processor."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    command = ["taskset", "-c", str(cpu), str(find_binary(None)), "-c", str(file), "--concurrency", "1"]
    process = await asyncio.create_subprocess_exec(*command, "--disable-hot-restart", "-l", "error")
    try:
        await asyncio.sleep(1.5)  # started before anything is measured; there is nothing to ask it
        assert process.returncode is None
        yield process.pid
    finally:
        process.terminate()
        await process.wait()
