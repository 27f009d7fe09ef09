"""What nginx.conf says of the ways to instances: plain, TLS, gRPC, copies, and the hop of faults.

nginx knows these only as configuration, so each has a location of its own, and Lua chooses among them.
nginx repeats a call by itself after some answers of 5xx, not all, and passes the last answer on. Where a rule
asks for retries, every 5xx is held back instead and Lua goes on to another attempt; the last one is made
where answers pass.
An https instance is verified for the host that it registered. nginx compares that with the names in the
certificate and, where it has none, with its common name; addresses in certificates it does not read.
"""

import itertools
from collections.abc import Iterable

from amalgam8.sidecar.trust import Trust, by_hash

HEADER_BYTES = "32k"
"""One header, or the request line, at most; four such buffers for all of them."""

BODY_KEPT = "256k"
"""How much of a body is kept in memory for another attempt; ``route.lua`` knows it too."""

COPIES = {"_copy": 4, "_copies": 32}
"""Places for copies, by the name's ending of the locations that have them; each place costs a subrequest."""

DEPTH = 5
"""Certificates between an instance's own and an authority's, at most."""

_UNTOUCHED = f"""\
        proxy_http_version 1.1;
        proxy_buffering off;
        proxy_request_buffering off;
        proxy_buffer_size {HEADER_BYTES};
        proxy_buffers 8 {HEADER_BYTES};
        proxy_busy_buffers_size 64k;
        proxy_redirect off;
        proxy_connect_timeout 1s;
        proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering
            X-Accel-Charset Cache-Control Expires Set-Cookie Vary;
        proxy_pass_header Server;
        proxy_pass_header Date;
        proxy_pass_header X-Accel-Redirect;
        proxy_pass_header X-Accel-Expires;
"""
"""What an app or instance says goes through as it came, and never whole into memory or a file."""


def defaults() -> str:
    """For every location of the server that apps call."""
    return f"""\
{_UNTOUCHED}\
        proxy_read_timeout 15s;
        proxy_send_timeout 15s;
        proxy_next_upstream error timeout;
        proxy_hide_header x-a8-reason;
        proxy_set_header Host $a8_host;
        proxy_set_header Connection $a8_connection;
        proxy_set_header Upgrade $a8_upgrade;
        proxy_set_header x-request-id $a8_id;
        proxy_set_header traceparent $a8_parent;
        proxy_set_header x-a8-hop $a8_hop;
{_tls("proxy", "$a8_sni")}\
        grpc_connect_timeout 1s;
        grpc_read_timeout 1h;
        grpc_send_timeout 1h;
        grpc_buffer_size {HEADER_BYTES};
        grpc_next_upstream error timeout;
        grpc_set_header Host $a8_host;
        grpc_set_header x-request-id $a8_id;
        grpc_set_header traceparent $a8_parent;
        grpc_set_header x-a8-hop $a8_hop;
        grpc_pass_header Server;
        grpc_pass_header Date;
        grpc_hide_header x-a8-reason;
        grpc_ignore_headers X-Accel-Redirect X-Accel-Charset;
{_tls("grpc", "$a8_sni")}"""


def locations() -> str:
    """One for each kind of call beyond the plain one, those of further attempts, and one for copies."""
    kinds = itertools.product(("", "_retry"), ("", "_tls"), ("", *COPIES))
    further = (kind(tls) for kind in (_again, _masked, _last, _grpc) for tls in ("", "_tls"))
    return "".join([*(_named(*kind) for kind in kinds), *further, _COPY])


def hop(socket: str) -> str:
    """The server that stands for an instance in an attempt that has a fault."""
    return f"""\
    server {{
        listen unix:{socket};
        http2 on;
        error_page 502 504 = @a8_close;
{_UNTOUCHED}\
        proxy_read_timeout 1h;
        proxy_set_header Host $http_host;
        proxy_set_header Connection $a8_connection;
        proxy_set_header Upgrade $a8_upgrade;
        proxy_set_header x-a8-hop "";
{_tls("proxy", "$a8_name")}\
        grpc_connect_timeout 1s;
        grpc_read_timeout 1h;
        grpc_buffer_size {HEADER_BYTES};
        grpc_set_header Host $http_host;
        grpc_set_header x-a8-hop "";
{_tls("grpc", "$a8_name")}\
        location / {{
            set $a8_to "";
            set $a8_name "";
            set $a8_way "";
            header_filter_by_lua_block {{ require("a8.hop").mask() }}
            rewrite_by_lua_block {{ require("a8.hop").handle() }}
            proxy_pass $a8_to$request_uri;
        }}
        location @a8_grpc {{ grpc_pass $a8_to; }}
        location @a8_close {{ return 444; }}
    }}"""


def _named(kind: str, tls: str, copy: str) -> str:
    numbers = range(1, COPIES[copy] + 1) if copy else ()
    mirrors = "".join(f"            mirror /.a8/copy/{i};\n" for i in numbers)
    return _location(f"{kind}{tls}{copy}", (_holding_back(tls) if kind else "") + mirrors, _plain(tls))


_REPEATING = """proxy_next_upstream error timeout http_500 http_502 http_503 http_504;
            proxy_request_buffering on;"""


def _holding_back(tls: str) -> str:
    """A 5xx, or a failure of the way, leads to the next attempt; nginx repeats by itself what it can."""
    return f"""\
            {_REPEATING}
            client_body_buffer_size {BODY_KEPT};
            proxy_intercept_errors on;
            recursive_error_pages on;
            error_page {" ".join(map(str, range(500, 600)))} = @a8_again{tls};
"""


def _again(tls: str) -> str:
    further = f'            rewrite_by_lua_block {{ return require("a8.attempt").further("{tls}") }}\n'
    return _location(f"_again{tls}", _holding_back(tls) + further, _plain(tls))


def _last(tls: str) -> str:
    return _location(f"_last{tls}", "            proxy_request_buffering on;\n", _plain(tls))


def _masked(tls: str) -> str:
    return _location(f"_masked{tls}", f"            {_REPEATING}\n", _plain(tls))


def _plain(tls: str) -> str:
    return f"proxy_pass http{'s' if tls else ''}://a8$a8_path;"


def _grpc(tls: str) -> str:
    return _location(f"_grpc{tls}", "", f"grpc_pass grpc{'s' if tls else ''}://a8_grpc;")


def _location(name: str, lines: str, goes: str) -> str:
    return f"""\
        location @a8{name} {{
{lines}            body_filter_by_lua_block {{ return require("a8.deadline").check() }}
            {goes}
        }}
"""


_COPY = """\
        location ^~ /.a8/copy/ {
            internal;
            error_page 599 /;  # whatever becomes of a copy stays with it
            set $a8_copy "";
            set $a8_copy_host "";
            rewrite_by_lua_block { require("a8.copies").handle() }
            proxy_set_header Host $a8_copy_host;
            proxy_set_header Connection "";
            proxy_set_header x-request-id $a8_id;
            proxy_set_header traceparent $a8_parent;
            proxy_ssl_name $args;
            proxy_pass $a8_copy$a8_path;
        }
"""


def authorities(believed: Trust, modules: Iterable[str] = ("proxy", "grpc")) -> str:
    """Who may vouch for https instances, said once for all servers, so that it is in memory once.

    Of a folder only those are read that an instance names, each when it is needed first. nginx insists on a
    file all the same, and is given the first.
    """
    if not (believed.verify and believed.authorities):
        return ""
    file, looks = believed.authorities, ""
    if believed.folder:
        file = str(by_hash(believed.folder)[0])
        looks = f"    {{}}_ssl_conf_command VerifyCAPath {quoted(believed.folder)};\n"
    return "".join(
        f"    {module}_ssl_verify on;\n"
        f"    {module}_ssl_verify_depth {DEPTH};\n"
        f"    {module}_ssl_trusted_certificate {quoted(file)};\n"
        f"{looks.format(module)}"
        for module in modules
    )


def _tls(module: str, name: str) -> str:
    return f"        {module}_ssl_server_name on;\n        {module}_ssl_name {name};\n"


def quoted(text: str) -> str:
    """As one word of nginx.conf, or of the Lua in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
