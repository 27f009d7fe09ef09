"""What proxies are measured against: an instance that answers at once, nginx without Lua, and with Lua idle.

All are nginx with one worker, on one processor each. Nothing here reads a rule.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.conftest import free_port

from amalgam8.sidecar.nginx.modules import find_modules
from amalgam8.sidecar.nginx.process import find_binary

BODY = "x" * 100

BUSY = 60
"""Texts that a busy instance puts together for each call: it takes 6 µs then, and some 2.4 without."""

_RECORD = (
    '{"status":"$status","start_time":"$time_iso8601","request_time":"$request_time",'
    '"upstream_response_time":"$upstream_response_time","src":"web:v1","dst":"svc0","module":"NGINX",'
    '"message":"$request_method $request_uri $status","method":"$request_method","path":"$request_uri",'
    '"protocol":"$server_protocol","x_forwarded":"$http_x_forwarded_for","user_agent":"$http_user_agent",'
    '"request_id":"$http_x_request_id","auth":"$http_host","upstream_host":"$upstream_addr",'
    '"bytes_received":"$request_length","bytes_sent":"$body_bytes_sent"}'
)


@contextlib.asynccontextmanager
async def instances(folder: Path, ports: list[int], cpu: int) -> AsyncIterator[int]:
    """The worker's process id; every port answers 200 with BODY, and works for it where the path says so."""
    listens = "".join(f"listen 127.0.0.1:{port} backlog=4096; " for port in ports)
    work = "".join(f'set $text{i} "$http_cookie$http_host$request_uri"; ' for i in range(BUSY))
    answers = f'location ~ /busy$ {{ {work}return 200 "{BODY}"; }} location / {{ return 200 "{BODY}"; }}'
    async with _nginx(folder, "instances", f"server {{ {listens}{answers} }}", cpu) as worker:
        yield worker


@contextlib.asynccontextmanager
async def bare(folder: Path, ports: list[int], cpu: int) -> AsyncIterator[tuple[int, int]]:
    """Port and worker of an nginx that passes everything on, with kept connections and a record."""
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{each};" for each in ports)
    upstream = f"upstream instances {{ {servers} keepalive 64; keepalive_requests 1000000000; }}"
    text = _passing(port, folder / "bare.log", upstream)
    async with _nginx(folder, "bare", text, cpu) as worker:
        yield port, worker


@contextlib.asynccontextmanager
async def idle(folder: Path, ports: list[int], cpu: int) -> AsyncIterator[tuple[int, int]]:
    """The same, where Lua is asked three times for each call, and does nothing but take the next instance."""
    port = free_port()
    upstream = f"""\
init_by_lua_block {{
    local balancer, ports, turn = require "ngx.balancer", {{ {", ".join(map(str, ports))} }}, 0
    function next_instance()
        turn = turn % #ports + 1
        balancer.set_current_peer("127.0.0.1", ports[turn])
        balancer.enable_keepalive(60, 1000000000)
    end
}}
upstream instances {{ server 0.0.0.1; balancer_by_lua_block {{ next_instance() }} balancer_keepalive 64; }}"""
    handlers = "rewrite_by_lua_block { asked = true } log_by_lua_block { asked = false }"
    text = _passing(port, folder / "idle.log", upstream, handlers)
    modules = await find_modules(find_binary(None))
    async with _nginx(
        folder, "idle", text, cpu, "".join(f"load_module {each};\n" for each in modules)
    ) as worker:
        yield port, worker


def _passing(port: int, log: Path, upstream: str, handlers: str = "") -> str:
    return f"""\
log_format record escape=json '{_RECORD}';
{upstream}
server {{
    listen 127.0.0.1:{port} backlog=4096;
    access_log {log} record buffer=64k flush=1s;
    location / {{
        {handlers}
        proxy_pass http://instances;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }}
}}
"""


@contextlib.asynccontextmanager
async def _nginx(folder: Path, name: str, servers: str, cpu: int, modules: str = "") -> AsyncIterator[int]:
    temporary = "".join(
        f"{kind}_temp_path {folder};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / f"{name}.conf"
    file.write_text(
        f"""\
{modules}daemon off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
access_log off;
tcp_nodelay on;
keepalive_requests 1000000000;
keepalive_timeout 1h;
{temporary}{servers}
}}
""",
        encoding="utf-8",
    )
    command = ["taskset", "-c", str(cpu), str(find_binary(None)), "-c", str(file), "-p", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, "-e", "stderr")
    try:
        yield await worker_of(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def worker_of(master: int) -> int:
    """The one worker of an nginx, once it has it."""
    async with asyncio.timeout(10):
        while True:
            children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="utf-8").split()
            if children:
                return int(children[0])
            await asyncio.sleep(0.01)
