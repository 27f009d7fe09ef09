"""The control socket's client: what goes wrong is an Unreachable."""

import asyncio
from pathlib import Path

import pytest

from amalgam8.model.errors import Unreachable
from amalgam8.sidecar.nginx.push import Head, exchange, push


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        await exchange(tmp_path / "none", "GET", "/")


@pytest.mark.parametrize(
    "answer", [b"", b"no http\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"]
)
async def test_an_answer_that_cannot_be_read(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "socket"):
        with pytest.raises(Unreachable):
            await push(tmp_path / "socket", Head(1), [])
