"""The fixed configuration says what it must; that nginx takes it is shown by every other test."""

from pathlib import Path
from typing import Any

from amalgam8.model.caller import caller
from amalgam8.sidecar.nginx.configuration import Places, configuration, lua_folder


def text(**more: Any) -> str:
    places = Places(Path("/state"), Path("/sockets"), (Path("/m/lua.so"),))
    return configuration(places, "::1", 6379, caller('sh"op', ["v1"]), 2, "0123456789abcdef0123", **more)


def test_it_listens_where_it_is_told_and_controls_by_sockets() -> None:
    found = text()
    assert "listen [::1]:6379" in found
    assert "listen unix:/sockets/control.sock;" in found
    assert "load_module /m/lua.so;" in found
    assert 'apply.own = "sh\\"op"' in found


def test_names_are_never_taken_for_variables() -> None:
    places = Places(Path("/state"), Path("/sockets"))
    found = configuration(places, "::1", 6379, caller("sh$op", ["v$1"]), 2, "0" * 20)
    assert 'record.start("sh$op:v$1", nil, "/state/traced.log")' in found
    assert found.count("sh$op") == 2, "both times as words of Lua, which knows no variables of nginx"


def test_records_are_written_where_asked_or_not_at_all() -> None:
    assert 'record.start("sh\\"op:v1", nil, "/state/traced.log")' in text()
    assert 'record.start("sh\\"op:v1", "/log/a", "/state/traced.log")' in text(record=Path("/log/a"))


def test_the_lua_modules_come_with_the_package() -> None:
    assert (lua_folder() / "a8" / "route.lua").is_file()
    assert all(len(each.read_text().splitlines()) <= 350 for each in lua_folder().rglob("*.lua"))
