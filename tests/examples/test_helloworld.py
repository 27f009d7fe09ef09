"""helloworld says which version it is, and ends when told to."""

import http.client
from contextlib import closing
from pathlib import Path

import pytest
from tests.examples.programs import LIMIT, fetch, program

SCRIPT = "helloworld/helloworld.py"


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"A8_SERVICE": "helloworld:v2,version=v2", "A8_SERVICE_VERSION": "v9"}, "v2"),
        ({"A8_SERVICE": "helloworld", "A8_SERVICE_VERSION": "v1"}, "v1"),
        ({"A8_SERVICE": "helloworld:"}, "UNVERSIONED"),
        ({}, "UNVERSIONED"),
    ],
)
def test_hello_tells_version_and_container(tmp_path: Path, env: dict[str, str], text: str) -> None:
    with program(SCRIPT, tmp_path, HOSTNAME="box-7", **env) as hello:
        reply = fetch(hello.port, "/hello")
        health = fetch(hello.port, "/health")
    assert (reply.status, reply.text) == (200, f"Hello version: {text}, container: box-7\n")
    assert reply.headers["Set-Cookie"].split(";")[0] == f"version={text}"
    assert health.status == 200


def test_container_is_the_host_name_by_default(tmp_path: Path) -> None:
    with program(SCRIPT, tmp_path) as hello:
        assert fetch(hello.port, "/hello").text.partition("container: ")[2].strip()


def test_sigterm_ends_it_at_once_though_a_client_keeps_its_connection(tmp_path: Path) -> None:
    with program(SCRIPT, tmp_path) as hello:
        with closing(http.client.HTTPConnection("127.0.0.1", hello.port, timeout=LIMIT)) as client:
            client.request("GET", "/hello")
            client.getresponse().read()
            assert hello.terminate() == 0
        assert hello.log() == ""


@pytest.mark.parametrize("port", ["", "web", "-1", "65536"])
def test_a_bad_port_is_refused_in_one_line(tmp_path: Path, port: str) -> None:
    with program(SCRIPT, tmp_path, PORT=port) as hello:
        assert hello.process.wait(LIMIT) == 1
        assert hello.log() == f"PORT={port!r}: must be a number from 0 to 65535\n"
