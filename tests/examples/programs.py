"""Runs the demo programs for the tests: real processes, and a small stand-in for their sidecar."""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT = 30  # seconds that anything here may take on a busy machine


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    text: str


def fetch(
    port: int,
    path: str,
    headers: dict[str, str] | None = None,
    method: str = "GET",
    body: str | None = None,
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read().decode())
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def listening_port(pid: int) -> int | None:
    """The port on which a process listens, as Linux knows it; so nobody has to guess a free one."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # closed meanwhile
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[3] == "0A" and f"socket:[{columns[9]}]" in sockets:
            return int(columns[1].split(":")[1], 16)
    return None


@dataclass
class Program:
    """A started demo program. `port` waits until it listens."""

    process: subprocess.Popen[bytes]
    log_file: Path
    _port: int | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            wait_until(self._listens)
        assert self._port is not None
        return self._port

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log()
        self._port = listening_port(self.process.pid)
        return self._port is not None

    def log(self) -> str:
        return self.log_file.read_text()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT)


@contextmanager
def program(script: str, log_folder: Path, **env: str) -> Iterator[Program]:
    """Start `examples/<script>` with these settings and no others; kill what has not ended by itself."""
    log_file = log_folder / f"{Path(script).stem}-{time.monotonic_ns()}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, EXAMPLES / script],
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PORT": "0", **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Program(process, log_file)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(LIMIT)


@dataclass(frozen=True)
class Seen:
    """A request that came by the sidecar."""

    path: str
    headers: dict[str, str]  # names in lower case


HANG = None  # an answer that never comes
Answer = tuple[int, str] | None
Target = Program | Callable[[], Answer]


@dataclass
class Sidecar:
    """`/<service>/<path>` goes to a program, or gets the answer of a function: (status, body) or HANG."""

    targets: dict[str, Target] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    port: int = 0

    def calls(self, service: str) -> list[Seen]:
        return [request for request in self.seen if request.path.startswith(f"/{service}/")]

    def answer(self, request: Seen, method: str, body: str | None) -> Reply | None:
        self.seen.append(request)
        service, _, path = request.path.lstrip("/").partition("/")
        service, mark, query = service.partition("?")
        target = self.targets[service]
        if isinstance(target, Program):
            return fetch(target.port, f"/{path}{mark}{query}", request.headers, method, body)
        scripted = target()
        if scripted is HANG:
            self.closing.wait(LIMIT)
            return None
        return Reply(scripted[0], http.client.HTTPMessage(), scripted[1])


@contextmanager
def sidecar() -> Iterator[Sidecar]:
    state = Sidecar()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            length = int(headers.get("content-length", 0))
            body = self.rfile.read(length).decode() if length else None
            reply = state.answer(Seen(self.path, headers), self.command, body)
            if reply is None:
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                if name.lower() not in ("content-length", "date", "server", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # the caller has given up
                self.wfile.write(reply.text.encode())

        do_GET = do_POST = handle_any  # noqa: N815 (the names that http.server looks for)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in the base class)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    state.url = f"http://127.0.0.1:{state.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(LIMIT)
