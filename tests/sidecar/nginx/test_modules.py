"""What is built in is not loaded, what is missing is named; nginx itself is a file that says what it is."""

from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.nginx.modules import find_modules, missing_package
from amalgam8.sidecar.nginx.process import find_binary

LUA = ["ndk_http_module.so", "ngx_http_lua_module.so"]
TCP = ["ngx_stream_module.so", "ngx_stream_js_module.so"]
OPENRESTY = (
    "--prefix=/usr/local/openresty/nginx --with-cc-opt=-O2 --add-module=../ngx_devel_kit-0.3.3 "
    "--add-module=../echo-nginx-module-0.63 --add-module=../ngx_lua-0.10.28 --with-ld-opt=-Wl "
    "--add-module=../ngx_stream_lua-0.0.16 --with-stream --with-stream_ssl_module --with-http_v2_module"
)


def nginx(folder: Path, arguments: str, *files: str, version: str = "nginx/1.26.3") -> Path:
    """An nginx that was built with these arguments and has these files beside it."""
    modules = folder / "modules"
    modules.mkdir()
    for file in files:
        (modules / file).touch()
    fake = folder / "nginx"
    fake.write_text(
        f'#!/bin/sh\necho "nginx version: {version}"\n'
        f'echo "configure arguments: --modules-path={modules} {arguments}"\n'
    )
    fake.chmod(0o755)
    return fake


def names(files: tuple[Path, ...]) -> list[str]:
    return [file.name for file in files]


async def test_the_machines_nginx_has_all_of_them() -> None:
    found = await find_modules(find_binary(None), tcp=True)
    assert names(found) == LUA + TCP
    assert all(module.is_file() for module in found)


async def test_streams_are_loaded_only_where_tcp_is_asked_for(tmp_path: Path) -> None:
    binary = nginx(tmp_path, "--with-stream=dynamic", *LUA)
    assert names(await find_modules(binary)) == LUA
    with pytest.raises(
        InvalidSetting, match=r"^tcp_proxies: .*/ngx_stream_module.so is missing.*mod-stream\)$"
    ):
        await find_modules(binary, tcp=True)


@pytest.mark.parametrize(
    ("missing", "package"),
    [
        ("ndk_http_module.so", "libnginx-mod-http-ndk"),
        ("ngx_http_lua_module.so", "libnginx-mod-http-lua"),
        ("ngx_stream_module.so", "libnginx-mod-stream"),
        ("ngx_stream_js_module.so", "libnginx-mod-stream-js"),
    ],
)
async def test_a_missing_module_names_its_package(tmp_path: Path, missing: str, package: str) -> None:
    files = [file for file in LUA + TCP if file != missing]
    binary = nginx(tmp_path, "--with-stream=dynamic", *files)
    with pytest.raises(InvalidSetting, match=rf"{missing} is missing \(Debian: apt install {package}\)$"):
        await find_modules(binary, tcp=True)


async def test_what_openresty_has_built_in_is_not_loaded(tmp_path: Path) -> None:
    binary = nginx(tmp_path, OPENRESTY, "ngx_stream_js_module.so", version="openresty/1.27.1.1")
    assert await find_modules(binary) == ()
    assert names(await find_modules(binary, tcp=True)) == ["ngx_stream_js_module.so"]


async def test_a_static_build_loads_nothing(tmp_path: Path) -> None:
    sources = ("ngx_devel_kit", "lua-nginx-module", "njs/nginx")
    arguments = " ".join(["--with-stream", *(f"--add-module=/src/{source}" for source in sources)])
    assert await find_modules(nginx(tmp_path, arguments), tcp=True) == ()


async def test_an_old_nginx_is_refused(tmp_path: Path) -> None:
    binary = nginx(tmp_path, OPENRESTY, version="openresty/1.21.4.3")
    for tcp, needed in ((False, r"1\.25\.1"), (True, r"1\.25\.5")):
        with pytest.raises(InvalidSetting, match=rf"is nginx 1\.21\.4; needed is {needed}$"):
            await find_modules(binary, tcp)


async def test_what_is_no_nginx_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="/bin/true is no nginx"):
        await find_modules(Path("/bin/true"))


def test_a_missing_lua_module_names_its_package() -> None:
    assert missing_package("[error] init_by_lua error: module 'cjson.safe' not found:") == "lua-cjson"
    assert missing_package("something else") is None
