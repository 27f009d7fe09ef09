"""A server with a certificate of its own, for tests of who is trusted."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_EXTENSIONS = ("subjectAltName=IP:127.0.0.1", "keyUsage=critical,digitalSignature,keyCertSign")


def make_pair(directory: Path) -> tuple[Path, Path]:
    """``ca.crt``, a certificate for 127.0.0.1 that is its own authority, and ``ca.key``."""
    crt, key = directory / "ca.crt", directory / "ca.key"
    command = ["openssl", "req", "-x509", *_KEY, "-keyout", str(key), "-out", str(crt)]
    extensions = [word for extension in _EXTENSIONS for word in ("-addext", extension)]
    subprocess.run(
        [*command, "-subj", "/CN=tests", "-days", "2", *extensions], check=True, capture_output=True
    )
    return crt, key


class TlsServer:
    """Answers every request with ``body``; ``clients`` has the subjects of certificates that were shown."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.port = 0
        self.clients: list[object] = []

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            shown = writer.get_extra_info("peercert") or {}
            self.clients.append(shown.get("subject"))
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(self.body)
            writer.write(head + self.body)
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def serving(self, crt: Path, key: Path) -> AsyncIterator[None]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(crt))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_cert_chain(crt, key)
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield
