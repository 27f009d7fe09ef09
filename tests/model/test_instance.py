"""Instances: ids as the original made them, and where their endpoints can be reached."""

import pytest

from amalgam8.model.instance import Address, Endpoint, address_of, instance_id


@pytest.mark.parametrize(
    ("service", "value", "expected"),
    [
        ("ratings", "172.17.0.11:9080", "26b250bc98d8a74c"),
        ("productpage", "172.17.0.6:9080", "74d2a394184327f5"),
        ("reviews", "172.17.0.9:9080", "5f940f0ddee732bb"),
    ],
)
def test_ids_are_those_of_the_original(service: str, value: str, expected: str) -> None:
    assert instance_id(service, Endpoint("http", value)) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("http", "10.0.0.1:80", Address("10.0.0.1", 80)),
        ("http", "10.0.0.1", Address("10.0.0.1", 80)),
        ("http", "http://10.0.0.1:81/some/path", Address("10.0.0.1", 81)),
        ("http", "https://a.example/", Address("a.example", 443, tls=True)),
        ("https", "a.example", Address("a.example", 443, tls=True)),
        ("https", "10.0.0.1:8443", Address("10.0.0.1", 8443, tls=True)),
        ("tcp", "10.0.0.1:9", Address("10.0.0.1", 9)),
        ("user", "host.example:8080", Address("host.example", 8080)),
        ("http", "[::1]:8080", Address("::1", 8080)),
        ("http", "::1", Address("::1", 80)),
    ],
)
def test_endpoints_that_take_http_calls(kind: str, value: str, expected: Address) -> None:
    assert address_of(Endpoint(kind, value)) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("udp", "10.0.0.1:53"),
        ("http", ""),
        ("http", "a:b"),
        ("http", "a:0"),
        ("http", "a:70000"),
        ("http", "a:1:2"),
    ],
)
def test_endpoints_that_do_not(kind: str, value: str) -> None:
    assert address_of(Endpoint(kind, value)) is None


@pytest.mark.parametrize(
    ("host", "is_ip"), [("10.0.0.1", True), ("::1", True), ("a.example", False), ("1", False)]
)
def test_an_address_knows_whether_it_is_an_ip(host: str, is_ip: bool) -> None:
    assert Address(host, 1).is_ip is is_ip
