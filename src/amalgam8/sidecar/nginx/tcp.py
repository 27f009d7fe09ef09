"""TCP proxies in nginx: a port each that never changes, and what its connections are to become.

nginx takes connections and asks JavaScript for an instance. What JavaScript knows comes from the agent: a
file, and its name on a socket; it counts for connections that come after it and leaves the others alone.
Whether the way to an instance has TLS is nginx's fixed configuration, so there are two servers, and a
connection is handed to one of them as soon as its instance is known; no byte takes a longer way for it.
"""

import asyncio
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.model.errors import Unreachable
from amalgam8.routing.connect import Connection
from amalgam8.routing.resolve import Peer, Routing, Target
from amalgam8.sidecar.figures import Figure, exposition
from amalgam8.sidecar.nginx.upstreams import authorities, quoted
from amalgam8.sidecar.tcp import TcpProxy, connection
from amalgam8.sidecar.trust import Trust

IDLE = "24h"
"""A connection on which no byte has moved for so long is closed."""

TIMEOUT = 10.0
ANSWER_LIMIT = 64 * 1024

FIGURES = {
    "a8_proxy_tcp_connections_total": "TCP connections from apps, all that have ended.",
    "a8_proxy_tcp_received_bytes_total": "Bytes that apps sent over TCP.",
    "a8_proxy_tcp_sent_bytes_total": "Bytes that apps got over TCP.",
}

_VARIABLES = ("to", "name", "dst", "rule", "way", "call", "reply")
_RECORD = (
    '{"status":"$status","start_time":"$a8_tcp_began","request_time":$a8_tcp_ms,"src":"$a8_tcp_src",',
    '"dst":"$a8_tcp_dst","module":"NGINX","protocol":"TCP","upstream_host":"$upstream_addr",',
    '"bytes_received":$bytes_received,"bytes_sent":$bytes_sent,"message":"TCP $a8_tcp_dst $status",',
    '"rules":["$a8_tcp_rule"]}',
)


class Untold(Exception):
    """nginx cannot take what is to become of TCP connections; the text is its own."""


class Ways(msgspec.Struct, frozen=True):
    """Sockets of the servers that lead connections on: without TLS, and with it."""

    plain: Path
    tls: Path


def js_folder() -> Path:
    """Where the JavaScript of this package is."""
    return Path(str(resources.files("amalgam8.sidecar.nginx") / "js"))


def streams(
    host: str,
    proxies: Iterable[TcpProxy],
    socket: Path,
    ways: Ways,
    believed: Trust,
    record: Path | None,
    source: str,
) -> str:
    """The stream block of nginx.conf; empty without TCP proxies. ``source`` is the caller as name:tag,tag."""
    proxies = tuple(proxies)
    if not proxies:
        return ""
    variables = "".join(f"    js_var $a8_tcp_{name};\n" for name in _VARIABLES)
    servers = "".join(_server(host, proxy, record) for proxy in proxies)
    secure = (
        "        proxy_ssl on;\n        proxy_ssl_server_name on;\n        proxy_ssl_name $a8_tcp_name;\n"
    )
    return f"""\
stream {{
    js_path {quoted(str(js_folder()))};
    js_import a8 from tcp.js;
    js_shared_dict_zone zone=a8_tcp:16m;
    js_shared_dict_zone zone=a8_tcp_state:2m type=number timeout=1h evict;
    js_shared_dict_zone zone=a8_tcp_open:2m type=number;
    js_shared_dict_zone zone=a8_tcp_handed:1m timeout=10s evict;
    js_shared_dict_zone zone=a8_tcp_counts:128k type=number;
{variables}    js_set $a8_tcp_noted a8.note;
    js_set $a8_tcp_began a8.began;
    map $a8_tcp_way $a8_tcp_socket {{ tls unix:{ways.tls}; default unix:{ways.plain}; }}
{_formats(source)}    proxy_connect_timeout 1s;
    proxy_timeout {IDLE};
    proxy_half_close on;
    proxy_socket_keepalive on;
    tcp_nodelay on;
{authorities(believed, ("proxy",))}{servers}{_way(ways.plain, record, "")}{_way(ways.tls, record, secure)}\
    server {{
        listen unix:{socket};
        preread_timeout 5s;
        js_preread a8.take;
        js_periodic a8.begin interval=1s worker_affinity=all;
        return $a8_tcp_reply;
    }}
}}
"""


def _formats(source: str) -> str:
    found = f"""\
    map $session_time $a8_tcp_ms {{
        "~^0\\.0*(?<a8_part>\\d+)$" $a8_part;
        "~^(?<a8_s>\\d+)\\.(?<a8_p>\\d+)$" $a8_s$a8_p;
    }}
    geo $a8_tcp_src {{ default {quoted(source)}; }}  # as it is: nothing in it is a variable
"""
    words = " ".join(f"'{piece}'" for piece in _RECORD)
    return f"{found}    log_format a8_tcp escape=json {words};\n"


def _server(host: str, proxy: TcpProxy, record: Path | None) -> str:
    listen = f"[{host}]:{proxy.port}" if ":" in host else f"{host}:{proxy.port}"
    return f"""\
    server {{
        listen {listen} so_keepalive=on backlog=4096;
        js_access a8.admit;
        pass $a8_tcp_socket;
{_written(record)}    }}
"""


def _way(socket: Path, record: Path | None, lines: str) -> str:
    return f"""\
    server {{
        listen unix:{socket};
        js_access a8.adopt;
{lines}        proxy_pass $a8_tcp_to;
{_written(record)}    }}
"""


def _written(record: Path | None) -> str:
    # Without records the connection's end is still noted, in a record that is never written.
    file = quoted(str(record or "/dev/null"))
    return f"        access_log {file} a8_tcp buffer=64k flush=1s if=$a8_tcp_noted;\n"


def document(proxies: Iterable[TcpProxy], routing: Routing, believed: Trust) -> bytes:
    """What becomes of connections to each port, as JSON; equal input gives equal bytes."""
    return msgspec.json.encode({str(proxy.port): _port(proxy, routing, believed) for proxy in proxies})


def _port(proxy: TcpProxy, routing: Routing, believed: Trust) -> dict[str, Any]:
    found = connection(proxy, routing) or Connection()
    slices = [piece for piece in found.slices if piece.weight]
    peers = routing[proxy.service].peers if slices else {}
    names = sorted({piece.target.name: piece.target for piece in slices}.items())
    order = {name: number for number, (name, _) in enumerate(names)}
    return {
        "service": proxy.service,
        "rule": found.rule or "-",
        "total": sum(piece.weight for piece in slices),
        "slices": [{"target": order[piece.target.name], "weight": piece.weight} for piece in slices],
        "targets": [
            _target(target, [peer for peer in peers.get(target, ()) if _usable(peer, believed)])
            for _, target in names
        ],
    }


def _usable(peer: Peer, believed: Trust) -> bool:
    return (peer.address.is_ip or bool(peer.places)) and (believed.usable or not peer.address.tls)


def _target(target: Target, peers: Iterable[Peer]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": target.name,
        "peers": [_peer(target.service, peer) for peer in peers],
    }
    if target.policy.lb_type:
        found["lb"] = target.policy.lb_type
    if resilience := target.policy.resilience:
        limits = {
            "most": resilience.max_connections,
            "window": (resilience.sleep_window or 0) * 1000,
            "interval": (resilience.detection_interval or 0) * 1000,
        }
        found |= {name: value for name, value in limits.items() if value}
    return found


def _peer(service: str, peer: Peer) -> dict[str, Any]:
    place = peer.address
    hosts = peer.places or (place.host,)
    found: dict[str, Any] = {
        "dst": f"{service}:{','.join(peer.tags)}",
        "addresses": [f"[{host}]:{place.port}" if ":" in host else f"{host}:{place.port}" for host in hosts],
    }
    if place.tls:
        found["name"] = place.host
    return found


async def tell(socket: Path, file: Path, told: bytes) -> None:
    """Make nginx follow ``told``, all of its workers; ``file`` is where it reads it.

    Raises:
        Unreachable: it does not answer.
        Untold: it cannot take it, and goes on as before with ports that it has not come to.
    """
    draft = file.with_suffix(".new")
    draft.write_bytes(told)
    draft.replace(file)
    await _say(socket, str(file))


async def figures(socket: Path, proxies: Iterable[TcpProxy]) -> bytes:
    """What went through each port, in the Prometheus text format.

    Raises:
        Unreachable: nginx does not answer, or not with figures.
    """
    services = {str(proxy.port): proxy.service for proxy in proxies}
    try:
        _, *lines = (await _say(socket, "figures")).decode().splitlines()
    except Untold as error:
        raise Unreachable(str(error)) from error
    found = []
    for port, *values in sorted(line.split() for line in lines):
        labels = {"destination": services[port], "port": port}
        found += [
            Figure(name, "counter", int(value), labels) for name, value in zip(FIGURES, values, strict=True)
        ]
    return exposition(found, FIGURES)


async def _say(socket: Path, line: str) -> bytes:
    answer = b""
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(f"{line}\n".encode())
                answer = await reader.read(ANSWER_LIMIT)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"the proxy does not answer: {str(error) or 'timeout'}") from error
    if not answer.startswith(b"ok\n"):
        raise Untold(answer.decode(errors="replace").strip())
    return answer
