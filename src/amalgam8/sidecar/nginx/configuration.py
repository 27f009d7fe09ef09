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
from amalgam8.sidecar.nginx.tcp import Ways, streams
from amalgam8.sidecar.nginx.upstreams import HEADER_BYTES, authorities, defaults, hop, locations, quoted
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.sidecar.trust import NO_TRUST, Trust

DOCUMENT_BYTES = "32m"
"""The document at most."""

CONNECTIONS = 4096
"""Of one worker, to apps and instances together; half a kilobyte each, whether used or not."""

KEPT_CONNECTIONS = {"a8": 512, "a8_grpc": 128}
"""Connections to instances that one worker keeps open while nobody needs them, by what is spoken on them; the
place for one takes 350 bytes, whether used or not."""

GROWTH, PACE = 120, 400
"""When Lua looks for what is not in use any more, in per cent of what was in use, and how fast. The usual 200
and 200 take 1 to 8 MB more and are no faster."""


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

    @property
    def ways(self) -> Ways:
        """Where TCP connections go on that have an instance."""
        return Ways(self.sockets / "tcp-plain.sock", self.sockets / "tcp-tls.sock")

    @property
    def odd(self) -> Path:
        return self.sockets / "odd.sock"

    @property
    def whole(self) -> Path:
        return self.sockets / "whole.sock"

    @property
    def all_sockets(self) -> tuple[Path, ...]:
        return self.control, self.hop, self.odd, self.whole, self.tcp, self.ways.plain, self.ways.tls

    @property
    def traced(self) -> Path:
        """Records of traced calls, once more and alone."""
        return self.folder / "traced.log"


def lua_folder() -> Path:
    """Where the Lua modules of this package are."""
    return Path(str(resources.files("amalgam8.sidecar.nginx") / "lua"))


def configuration(
    places: Places,
    host: str,
    port: int,
    caller: Caller,
    workers: int,
    run: str,
    record: Path | None = None,
    tcp_proxies: tuple[TcpProxy, ...] = (),
) -> str:
    """The text of nginx.conf.

    ``run``: 20 hexadecimal digits that no other start of any nginx has; the ids of its calls begin with them.
    ``record``: the file of the access records, None for none.
    """
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    loads = "".join(f"load_module {module};\n" for module in places.modules)
    folder = places.folder
    written = quoted(str(record)) if record else "nil"
    return f"""\
{loads}daemon off;
pcre_jit on;
worker_processes {workers};
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[1]};
{_user()}pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {CONNECTIONS}; }}
{streams(host, tcp_proxies, places.tcp, places.ways, places.believed, record, str(caller))}\
http {{
    lua_package_path "{lua_folder()}/?.lua;;";
    lua_shared_dict a8_documents 64m;
    lua_shared_dict a8_state 4m;
    lua_shared_dict a8_limits 8m;
    lua_shared_dict a8_slices 1m;
    lua_shared_dict a8_figures 16m;
    lua_regex_match_limit 100000;
    lua_max_pending_timers 64;
    lua_malloc_trim 100000;  # it looks through the whole heap, and takes away what the next call needs
    init_by_lua_block {{
        require "resty.core"
        collectgarbage("setpause", {GROWTH})
        collectgarbage("setstepmul", {PACE})
        require("ngx.re").opt("jit_stack_size", 1048576)
        -- The way of a call is long, and compiled in pieces before it is tried, and given up, as a whole.
        require("jit.opt").start("maxirconst=4000", "hotexit=2")
        local apply, attempt, odd, record =
            require "a8.apply", require "a8.attempt", require "a8.odd", require "a8.record"
        require("a8.ids").run = "{run}"
        apply.own = {quoted(caller.service)}
        attempt.hop = "unix:{places.hop}"
        odd.socket = "unix:{places.odd}"
        record.start({quoted(str(caller))}, {written}, {quoted(str(places.traced))})
        require "a8.route"
        require "a8.log"
        require "a8.post"
    }}
    init_worker_by_lua_block {{ require("a8.apply").start() }}
    exit_worker_by_lua_block {{ require("a8.lines").finish() }}
    client_body_temp_path {folder}/temporary;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/temporary;
    uwsgi_temp_path {folder}/temporary;
    scgi_temp_path {folder}/temporary;
    access_log off;
    default_type "";
    server_tokens off;
    tcp_nodelay on;
    request_pool_size 12k;  # what a call needs, in one piece and not in three
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
    uninitialized_variable_warn off;
{authorities(places.believed)}\
    map "" $a8_ended {{ default '{_ENDED}'; }}
    map $http_upgrade $a8_connection {{ default ""; "~*^websocket$" "upgrade"; }}
    map $http_upgrade $a8_upgrade {{ default ""; "~*^websocket$" $http_upgrade; }}
{_upstreams()}\
{_main_server(f"{listen} backlog=4096", places)}
{hop(str(places.hop))}
    server {{
        listen unix:{places.whole};
        location / {{ content_by_lua_block {{ require("a8.whole").handle() }} }}
    }}
    server {{
        listen unix:{places.control};
        client_max_body_size {DOCUMENT_BYTES};
        client_body_buffer_size 1m;
        location = /document {{
            if ($request_method != POST) {{ return 405; }}
            content_by_lua_block {{ require("a8.post").handle() }}
        }}
        location = /slices {{
            if ($request_method != POST) {{ return 405; }}
            content_by_lua_block {{ require("a8.limit").share() }}
        }}
        location = /figures {{ content_by_lua_block {{ require("a8.figures").show() }} }}
        location = /connections {{ stub_status; }}
        location / {{ return 404; }}
    }}
}}
"""


def _upstreams() -> str:
    return "".join(
        f"""\
    upstream {name} {{
        server 0.0.0.1;
        balancer_by_lua_block {{ require("a8.attempt").balance() }}
        balancer_keepalive {kept};
    }}
"""
        for name, kept in KEPT_CONNECTIONS.items()
    )


_VARIABLES = (
    "path",
    "host",
    "id",
    "parent",
    "copies",
    "hop",
    "sni",
)


_ENDED = (
    '"protocol":"$server_protocol","bytes_sent":$body_bytes_sent,'
    '"upstream_response_time":"$upstream_header_time'
)
"""What nginx alone knows at the end of a call, and nobody else can have put in; ``record.lua`` goes on."""


def _main_server(listen: str, places: Places) -> str:
    declared = "".join(f'            set $a8_{name} "";\n' for name in _VARIABLES)
    return f"""\
    server {{
        listen {listen};
        listen unix:{places.odd};
        http2 on;
        error_page 400 = /.a8/odd;
        error_page 500 502 503 504 = @a8_failed;
        log_by_lua_block {{ require("a8.log").handle() }}
{defaults()}\
        location / {{
            rewrite_by_lua_block {{ require("a8.route").handle() }}
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header x-request-id $a8_id;
            proxy_set_header traceparent $a8_parent;
            proxy_pass http://a8$a8_path;
        }}
        location = /.a8/odd {{
            internal;
            log_by_lua_block {{ }}
            content_by_lua_block {{ require("a8.odd").handle() }}
        }}
        location @a8_bad {{ return 400; }}
        location @a8_close {{ return 444; }}
        location @a8_whole {{
            log_by_lua_block {{ }}  # recorded where it is decided
            error_page 502 504 = @a8_close;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
            proxy_set_header x-a8-protocol $server_protocol;
            proxy_hide_header x-a8-target;  # and not the reasons of refusals, which come from ourselves
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_pass http://unix:{places.whole};
        }}
        location = /.a8/variables {{  # set by Lua, and declared where no call comes by
            internal;
{declared}            return 404;
        }}
        location @a8_failed {{
            content_by_lua_block {{ require("a8.attempt").failed() }}
        }}
{locations()}    }}"""


def _user() -> str:
    """Workers run as whoever started nginx; only root has to say so."""
    return f"user {pwd.getpwuid(0).pw_name} root;\n" if os.geteuid() == 0 else ""
