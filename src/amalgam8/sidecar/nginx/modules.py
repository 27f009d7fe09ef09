"""What an nginx has built in, what it has to load, and which package has what is missing.

Debian's nginx loads each module from a file; OpenResty has Lua built in, nginx.org's build has streams.
What is built in must not be loaded again. Refuses to start without a module, with a line that names it.
"""

import asyncio
import re
from pathlib import Path

import msgspec

from amalgam8.model.errors import InvalidSetting

OLDEST = (1, 25, 1)
"""The first nginx that speaks HTTP/2 and HTTP/1.1 on one port without TLS."""

OLDEST_WITH_TCP = (1, 25, 5)
"""The first that hands a connection from one server to another."""

ALLOWED = "allowed is the path of an nginx binary; without it, nginx is looked for in PATH and /usr/sbin"
_MODULES_FOLDER = "/usr/lib/nginx/modules"


class _Module(msgspec.Struct, frozen=True):
    """``built_in`` is found in what ``nginx -V`` says where the module needs no file."""

    file: str
    package: str
    built_in: str


_LUA = (
    _Module(
        "ndk_http_module.so", "libnginx-mod-http-ndk", r"--add-module=\S*(ngx_devel_kit|nginx-ndk|\bndk\b)"
    ),
    _Module("ngx_http_lua_module.so", "libnginx-mod-http-lua", r"--add-module=\S*(ngx_lua|lua-nginx-module)"),
)
_TCP = (
    _Module("ngx_stream_module.so", "libnginx-mod-stream", r"--with-stream(?![\w=])"),
    _Module("ngx_stream_js_module.so", "libnginx-mod-stream-js", r"--add-module=\S*njs"),
)
_LUA_PACKAGES = {"cjson": "lua-cjson", "resty.core": "lua-resty-core"}


async def find_modules(binary: Path, tcp: bool = False) -> tuple[Path, ...]:
    """The files to load, in this order. ``tcp``: those that only tcp_proxies need as well.

    Raises:
        InvalidSetting: one is missing, with the package that has it; or the binary is no nginx, or too old.
    """
    said = await _said(binary)
    _check_version(binary, said, OLDEST_WITH_TCP if tcp else OLDEST)
    found = re.search(r"--modules-path=(\S+)", said)
    folder = Path(found[1] if found else _MODULES_FOLDER)
    wanted = [(module, "proxy_adapter") for module in _LUA]
    if tcp:
        wanted += [(module, "tcp_proxies") for module in _TCP]
    files = []
    for module, setting in wanted:
        if re.search(module.built_in, said):
            continue
        if not (folder / module.file).exists():
            raise InvalidSetting(
                f"{setting}: {folder / module.file} is missing (Debian: apt install {module.package})"
            )
        files.append(folder / module.file)
    return tuple(files)


async def _said(binary: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        str(binary),
        "-V",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    text = said.decode(errors="replace")
    if "configure arguments" not in text:
        raise InvalidSetting(f"proxy_binary: {binary} is no nginx; {ALLOWED}")
    return text


def _check_version(binary: Path, said: str, oldest: tuple[int, ...]) -> None:
    found = re.search(r"^nginx version: \S+/(\d+)\.(\d+)\.(\d+)", said, re.MULTILINE)
    if found and tuple(map(int, found.groups())) < oldest:
        needed = ".".join(map(str, oldest))
        raise InvalidSetting(
            f"proxy_binary: {binary} is nginx {found[0].rpartition('/')[2]}; needed is {needed}"
        )


def missing_package(words: str) -> str | None:
    """The Debian package whose Lua module nginx did not find, by its words."""
    found = re.search(r"module '([^']+)' not found", words)
    return _LUA_PACKAGES.get(found[1].removesuffix(".safe")) if found else None
