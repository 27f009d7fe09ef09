from pathlib import Path

import pytest

from amalgam8.registry.redis_address import ADDRESS, RedisAddress, read_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", RedisAddress()),
        ("store", RedisAddress((("store", 6379),))),
        (" 10.0.0.1:7000 ", RedisAddress((("10.0.0.1", 7000),))),
        ("redis://[::1]:7000/3", RedisAddress((("::1", 7000),), database=3)),
        ("redis://mesh@store", RedisAddress((("store", 6379),), user="mesh")),
        ("rediss://store:6380", RedisAddress((("store", 6380),), tls=True)),
        ("unix:///run/valkey.sock", RedisAddress(path="/run/valkey.sock")),
        (
            "sentinel://one,two:7000/main",
            RedisAddress((("one", 26379), ("two", 7000)), master="main"),
        ),
    ],
)
def test_an_address_is_read(text: str, address: RedisAddress) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://store", "redis, rediss, unix, sentinel"),
        ("redis://:hush@store", "store_password"),
        ("store:hush@store", "store_password"),
        ("store:0", "host:port"),
        ("store:70000", "host:port"),
        ("store:", "host:port"),
        ("redis://", "host:port"),
        ("redis://a b", "host:port"),
        ("one,two", "sentinel"),
        ("redis://store/name", "database"),
        ("redis://store/?ssl=no", "query"),
        ("redis://store/?ca=x", "query"),
        ("rediss://store/?ca=/no/such/file", "/no/such/file"),
        ("unix://store/path", "unix:///path"),
        ("unix://", "unix:///path"),
        ("sentinel://one:7000", "master"),
    ],
)
def test_what_is_no_address_is_refused_without_quoting_a_password(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        ADDRESS.read(text)
    assert "hush" not in str(caught.value)


def test_the_file_of_who_vouches_for_the_server(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    address = read_address(f"rediss://store/?ca={tmp_path}/ca.pem")
    assert address.ca == f"{tmp_path}/ca.pem"
