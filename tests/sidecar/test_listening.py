"""Where a proxy may listen."""

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.listening import check_port, listen_address


def test_addresses_to_listen_on() -> None:
    assert listen_address("localhost") == "127.0.0.1"
    assert listen_address("::1") == "::1"
    with pytest.raises(InvalidSetting, match=r"^listen_host: 'my\.host'; allowed is"):
        listen_address("my.host")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"^http_listener_port: port 6379 on 192\.0\.2\.1"):
        check_port("192.0.2.1", 6379)
