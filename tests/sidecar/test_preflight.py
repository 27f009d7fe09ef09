"""Where a proxy may listen, and write."""

from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.preflight import check_port, check_writable, listen_address


def test_addresses_to_listen_on() -> None:
    assert listen_address("localhost") == "127.0.0.1"
    assert listen_address("::1") == "::1"
    with pytest.raises(InvalidSetting, match=r"^listen_host: 'my\.host'; allowed is"):
        listen_address("my.host")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"^http_listener_port: port 6379 on 192\.0\.2\.1"):
        check_port("192.0.2.1", 6379)


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"^access_log: .*/no/a cannot be written to \(No such file"):
        check_writable(tmp_path / "no" / "a", "access_log")
    with pytest.raises(InvalidSetting, match="Is a directory"):
        check_writable(tmp_path, "access_log")


def test_a_file_that_can_be_written_keeps_what_it_has(tmp_path: Path) -> None:
    check_writable(None, "access_log")
    file = tmp_path / "a"
    check_writable(file, "access_log")
    assert file.read_bytes() == b""
    file.write_bytes(b"line\n")
    check_writable(file, "access_log")
    assert file.read_bytes() == b"line\n"
