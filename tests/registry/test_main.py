"""The registry as a real process."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from amalgam8.clients.http import Http
from amalgam8.clients.registry import Registration, RegistryClient
from amalgam8.model.errors import InstanceGone
from amalgam8.model.instance import Endpoint
from tests.conftest import eventually

PROGRAM = (sys.executable, "-c", "import sys; from amalgam8.registry.main import main; sys.exit(main())")
HERE = {**{name: value for name, value in os.environ.items() if not name.startswith("A8_")}}


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def run(*argv: str, **environ: str) -> tuple[int | None, str, str]:
    """Run to the end; exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *argv,
        env={**HERE, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            out, err = await process.communicate()
    finally:
        await end(process)
    return process.returncode, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def registry(*argv: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A running process and its port, which its log tells."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "--api-port", "0", *argv, env=HERE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            line = (await process.stderr.readline()).decode()
        found = re.search(r"port=(\d+)", line)
        assert found, line
        yield process, int(found[1])
    finally:
        await end(process)


async def test_help_names_every_setting_and_its_default() -> None:
    code, out, err = await run("--help")
    assert (code, err) == (0, "")
    assert "--default_ttl  (A8_DEFAULT_TTL)" in out
    assert "Default: 30s." in out


@pytest.mark.parametrize(
    ("argv", "environ", "says"),
    [
        (["--default-ttl", "1h"], {}, "a8registry: default_ttl: 1h is not allowed"),
        ([], {"A8_API_PORT": "http"}, "a8registry: A8_API_PORT: 'http' is not allowed"),
        ([], {"A8_STORE": "redis"}, "store_address: missing"),
        ([], {"A8_STORE": "redis", "A8_STORE_ADDRESS": "redis://:hush@h"}, "store_password"),
        ([], {"A8_CATALOG": "nosuch"}, "a8registry: catalog: there is no catalogue named 'nosuch'"),
        (
            ["--listen-host", "no.such.host.invalid", "--api-port", "0"],
            {},
            "a8registry: api_port: port 0 on no.such",
        ),
        (["extra"], {}, "unexpected argument"),
        (["--auth-mode", "jwt"], {"A8_JWT_SECRET": "short"}, "jwt_secret: (not shown) is shorter than 32"),
        (["--auth-mode", "jwt"], {"A8_JWT_JWKS": "/no/such"}, "jwt_jwks: cannot read /no/such"),
        (["--auth-mode", "saml"], {}, "--auth_mode: 'saml' is not allowed"),
        (["--tls-key", "/no/such"], {}, "tls_cert: missing, and tls_key needs it"),
        (["--tls-cert", "/no/such", "--tls-key", "/no/such"], {}, "tls_cert: cannot read /no/such"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_code_2(
    argv: list[str], environ: dict[str, str], says: str
) -> None:
    code, out, err = await run(*argv, **environ)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = await run("--api-port", str(port))
    assert code == 2
    assert err == f"a8registry: api_port: port {port} on 127.0.0.1 is already taken\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_with_streams_open(number: signal.Signals) -> None:
    async with registry() as (process, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/v1/instances/watch HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"snapshot" in await reader.readuntil(b"event: snapshot")
        _, half_writer = await asyncio.open_connection("127.0.0.1", port)
        half_writer.write(b"GET / HT")
        process.send_signal(number)
        async with asyncio.timeout(5):
            assert await process.wait() == 0
            await reader.read()
        for one in (writer, half_writer):
            one.close()
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()


async def test_leases_lapse_by_themselves() -> None:
    async with registry("--min-ttl", "1s", "--default-ttl", "1s") as (_, port):
        http = Http(f"http://127.0.0.1:{port}")
        try:
            client = RegistryClient(http)
            granted = await client.register(Registration("a", Endpoint("http", "h:1")))
            assert granted.ttl == 1
            await client.renew(granted.id)

            async def gone() -> bool:
                return await client.services() == ()

            await eventually(gone, within=15, what="expiry")
            with pytest.raises(InstanceGone):
                await client.renew(granted.id)
        finally:
            await http.close()


async def test_a_killed_registry_comes_back_with_a_new_epoch() -> None:
    epochs = set()
    for _ in range(2):
        async with registry() as (_, port):
            http = Http(f"http://127.0.0.1:{port}")
            answer = await http.request("GET", "/uptime")
            epochs.add(answer.json()["UPTIME"]["properties"]["epoch"])
            await http.close()
    assert len(epochs) == 2
