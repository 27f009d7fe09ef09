"""Finding nginx and what it needs; one line says which package is missing."""

from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.nginx.process import find_binary, find_modules, listen_address, missing_package


async def test_the_machines_nginx_is_found_with_its_modules() -> None:
    modules = await find_modules(find_binary(None))
    assert all(module.is_file() for module in modules)


async def test_a_missing_module_names_its_package(tmp_path: Path) -> None:
    fake = tmp_path / "nginx"
    fake.write_text(f'#!/bin/sh\necho "configure arguments: --modules-path={tmp_path}"\n')
    fake.chmod(0o755)
    (tmp_path / "ndk_http_module.so").touch()
    with pytest.raises(InvalidSetting, match="apt install libnginx-mod-http-lua"):
        await find_modules(fake)


def test_a_missing_lua_module_names_its_package() -> None:
    assert missing_package("[error] init_by_lua error: module 'cjson.safe' not found:") == "lua-cjson"
    assert missing_package("something else") is None


def test_addresses() -> None:
    assert listen_address("localhost") == "127.0.0.1"
    with pytest.raises(InvalidSetting):
        listen_address("example.org")
