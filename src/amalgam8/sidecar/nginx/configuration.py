"""nginx.conf: fixed for the life of the process. What changes comes by POST on a socket.

Each call enters ``location /``, where Lua decides all about it. Most go on from there; a call that needs
retries on answers, a time limit, TLS, gRPC or copies goes on in a named location that has them, since
nginx knows these only as configuration. Refuses nothing; the paths are the caller's to make.
"""

import os
import pwd
import resource
from importlib import resources
from pathlib import Path

import msgspec

from amalgam8.model.caller import Caller
from amalgam8.sidecar.nginx.tcp import streams
from amalgam8.sidecar.nginx.upstreams import (
    HEADER_BYTES,
    defaults,
    hop,
    locations,
    quoted,
)
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.sidecar.trust import NO_TRUST, Trust

DOCUMENT_BYTES = "32m"
"""The document at most."""

CONNECTIONS = 10_000


class Places(msgspec.Struct, frozen=True):
    """Where everything is. ``folder`` is private; ``sockets`` too, and short enough for a socket's path."""

    folder: Path
    sockets: Path
    modules: tuple[Path, ...] = ()
    believed: Trust = NO_TRUST
    """Who may vouch for https instances."""

    @property
    def control(self) -> Path:
        return self.sockets / "control.sock"

    @property
    def hop(self) -> Path:
        return self.sockets / "hop.sock"

    @property
    def tcp(self) -> Path:
        return self.sockets / "tcp.sock"


def lua_folder() -> Path:
    """Where the Lua modules of this package are."""
    return Path(str(resources.files("amalgam8.sidecar.nginx") / "lua"))


def configuration(
    places: Places,
    host: str,
    port: int,
    caller: Caller,
    workers: int,
    record: Path | None = None,
    tcp_proxies: tuple[TcpProxy, ...] = (),
) -> str:
    """The text of nginx.conf. ``record``: the file of the access records, None for none."""
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    loads = "".join(f"load_module {module};\n" for module in places.modules)
    folder = places.folder
    return f"""\
{loads}daemon off;
worker_processes {workers};
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[1]};
{_user()}pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {CONNECTIONS * 2}; }}
{streams(host, tcp_proxies, places.tcp, record, str(caller))}\
http {{
    lua_package_path "{lua_folder()}/?.lua;;";
    lua_shared_dict a8_documents 64m;
    lua_shared_dict a8_state 4m;
    lua_shared_dict a8_limits 8m;
    lua_shared_dict a8_figures 1m;
    lua_regex_match_limit 100000;
    lua_max_pending_timers 64;
    init_by_lua_block {{
        require "resty.core"
        require("ngx.re").opt("jit_stack_size", 1048576)
        local apply, attempt = require "a8.apply", require "a8.attempt"
        apply.own = {quoted(caller.service)}
        attempt.hop = "unix:{places.hop}"
        require "a8.route"
        require "a8.log"
        require "a8.post"
    }}
    init_worker_by_lua_block {{ require("a8.apply").start(require("a8.log").tick) }}
    client_body_temp_path {folder}/temporary;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/temporary;
    uwsgi_temp_path {folder}/temporary;
    scgi_temp_path {folder}/temporary;
    access_log off;
    default_type "";
    server_tokens off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_header_timeout 15s;
    client_body_timeout 1h;
    send_timeout 1h;
    client_max_body_size 0;
    client_body_buffer_size 64k;
    large_client_header_buffers 4 {HEADER_BYTES};
    underscores_in_headers on;
    ignore_invalid_headers off;
    merge_slashes off;
{_formats()}    map "$a8_rule$a8_more" $a8_plain {{ "" 1; default ""; }}
    map $http_upgrade $a8_connection {{ default ""; "~*^websocket$" "upgrade"; }}
    map $http_upgrade $a8_upgrade {{ default ""; "~*^websocket$" $http_upgrade; }}
    map $request_id $a8_uuid {{
        "~^(?<a8_1>.{{8}})(?<a8_2>.{{4}})(?<a8_3>.{{4}})(?<a8_4>.{{4}})(?<a8_5>.{{12}})$"
            $a8_1-$a8_2-$a8_3-$a8_4-$a8_5;
    }}
    map $a8_fired $a8_fault {{ "" false; default $a8_fired; }}
    map $http_x_request_id $a8_request_id {{ "" $a8_uuid; default $http_x_request_id; }}
    map $request_id $a8_span {{ default ""; "~^(?<a8_span_part>.{{16}})" $a8_span_part; }}
    map $http_traceparent $a8_traceparent {{ "" "00-$request_id-$a8_span-01"; default $http_traceparent; }}
    upstream a8 {{
        server 0.0.0.1;
        balancer_by_lua_block {{ require("a8.attempt").balance() }}
    }}
    upstream a8_grpc {{
        server 0.0.0.1;
        balancer_by_lua_block {{ require("a8.attempt").balance() }}
    }}
{_main_server(listen, places, record, str(caller))}
{hop(places.believed, str(places.hop))}
    server {{
        listen unix:{places.control};
        client_max_body_size {DOCUMENT_BYTES};
        client_body_buffer_size 1m;
        location = /document {{
            if ($request_method != POST) {{ return 405; }}
            content_by_lua_block {{ require("a8.post").handle() }}
        }}
        location = /figures {{ content_by_lua_block {{ require("a8.log").show() }} }}
        location = /connections {{ stub_status; }}
        location / {{ return 404; }}
    }}
}}
"""


_TIMES = (
    '"status":"$status","start_time":"$time_iso8601","request_time":$a8_ms,"src":"$a8_src","dst":"$a8_dst",',
    '"module":"NGINX","method":"$request_method","protocol":"$server_protocol","fault":$a8_fault,',
    '"upstream_host":"$upstream_addr","bytes_received":$request_length,"bytes_sent":$body_bytes_sent,',
)
"""What nginx alone knows at the end of a call, and nobody but nginx can have put in."""

_WORDS = (
    '"path":"$request_uri","user_agent":"$http_user_agent","x_forwarded":"$http_x_forwarded_for",',
    '"request_id":"$a8_request_id","auth":"$http_host",',
    '"message":"$request_method $request_uri $status",',
)


def _formats() -> str:
    """Formats of the access record: without a rule, with the route's alone, and with what Lua wrote."""
    plain, ruled = ('"rules":[]}',), ('"rules":["$a8_rule"]}',)
    formats = (
        ("a8_plain", "json", ("{", *_TIMES, *_WORDS, *plain)),
        ("a8_ruled", "json", ("{", *_TIMES, *_WORDS, *ruled)),
        ("a8_more", "none", ("{", *_TIMES, "$a8_more}")),
    )
    found = ""
    for name, escape, pieces in formats:
        quoted = " ".join(f"'{piece}'" for piece in pieces)
        found += f"    log_format {name} escape={escape} {quoted};\n"
    return found


_VARIABLES = ("path", "dst", "rule", "more", "fired", "hop", "sni")


def _main_server(listen: str, places: Places, record: Path | None, source: str) -> str:
    sets = "".join(f'            set $a8_{name} "";\n' for name in _VARIABLES)
    written = "".join(
        f"        access_log {record} a8_{name} buffer=64k flush=1s if=$a8_{variable};\n"
        for name, variable in (("plain", "plain"), ("ruled", "rule"), ("more", "more"))
        if record
    )
    return f"""\
    map $request_time $a8_ms {{
        "~^0\\.0*(?<a8_part>\\d+)$" $a8_part;
        "~^(?<a8_s>\\d+)\\.(?<a8_p>\\d+)$" $a8_s$a8_p;
    }}
    server {{
        listen {listen} backlog=4096;
        http2 on;
{written}        set $a8_src {quoted(source)};
        error_page 500 502 503 504 = @a8_failed;
        log_by_lua_block {{ require("a8.log").handle() }}
{defaults(places.believed)}\
        location / {{
{sets}            set $a8_host $http_host;
            rewrite_by_lua_block {{ require("a8.route").handle() }}
            proxy_pass http://a8$a8_path;
        }}
        location @a8_failed {{
            content_by_lua_block {{ require("a8.attempt").failed() }}
        }}
{locations()}    }}"""


def _user() -> str:
    """Workers run as whoever started nginx; only root has to say so."""
    return f"user {pwd.getpwuid(0).pw_name} root;\n" if os.geteuid() == 0 else ""
