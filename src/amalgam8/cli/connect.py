"""Where the registry and the controller are, and clients for them.

A ``Target`` comes from the global flags. With ``debug`` each request is shown as a curl line on standard
error first; a token is shown as the variable that holds it, never as itself.
"""

import contextlib
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import URL

if TYPE_CHECKING:
    import typer

    from amalgam8.cli.context_file import Contexts
    from amalgam8.clients.controller import ControllerClient
    from amalgam8.clients.registry import RegistryClient

T = TypeVar("T")

CONTROLLER_URL = "http://localhost:31200"
REGISTRY_URL = "http://localhost:31300"


@dataclass(frozen=True)
class Target:
    """URLs and tokens of both servers, and paths for TLS; ``check`` before use."""

    controller_url: str = CONTROLLER_URL
    controller_token: str = ""
    registry_url: str = REGISTRY_URL
    registry_token: str = ""
    debug: bool = False
    ca_cert: str = ""
    client_cert: str = ""
    client_key: str = ""

    def check(self) -> "Target":
        """This target with normal URLs.

        Raises:
            InvalidSetting: a URL or token that cannot be one.
        """
        return Target(
            _url("controller", self.controller_url),
            _token("controller", self.controller_token),
            _url("registry", self.registry_url),
            _token("registry", self.registry_token),
            self.debug,
            self.ca_cert,
            self.client_cert,
            self.client_key,
        )

    def with_controller(self, ask: "Callable[[ControllerClient], Awaitable[T]]") -> T:
        """Run ``ask`` with a client of the controller; raises as the client does."""

        async def run() -> T:
            async with self.controller() as client:
                return await ask(client)

        return _run(run())

    def with_registry(self, ask: "Callable[[RegistryClient], Awaitable[T]]") -> T:
        """Run ``ask`` with a client of the registry; raises as the client does."""

        async def run() -> T:
            async with self.registry() as client:
                return await ask(client)

        return _run(run())

    @contextlib.asynccontextmanager
    async def controller(self) -> "AsyncIterator[ControllerClient]":
        from amalgam8.clients.controller import ControllerClient

        http = _http(self.controller_url, self.controller_token, "A8_CONTROLLER_TOKEN", self)
        try:
            yield ControllerClient(http)
        finally:
            await http.close()

    @contextlib.asynccontextmanager
    async def registry(self) -> "AsyncIterator[RegistryClient]":
        from amalgam8.clients.registry import RegistryClient

        http = _http(self.registry_url, self.registry_token, "A8_REGISTRY_TOKEN", self)
        try:
            yield RegistryClient(http)
        finally:
            await http.close()


def target_from(
    given: Mapping[str, str | None], found: "Contexts | None" = None, *, debug: bool = False
) -> Target:
    """Where a command goes: what flags and environment say, else the context, else this machine.

    A context's token goes to the context's address only, never to one that a flag names.

    Raises:
        NoSuchContext, InvalidSetting: the context, or the file of contexts, cannot be used.
    """
    from amalgam8.cli.context_file import MEMBERS, PATHS, chosen

    context = chosen(given.get("context") or "", found)
    values = {member: given.get(member) for member in MEMBERS}
    for server, default in (("controller", CONTROLLER_URL), ("registry", REGISTRY_URL)):
        url, token = f"{server}_url", f"{server}_token"
        theirs = context.get(url, default)
        if values[url] in (None, theirs):
            values[url] = theirs
            values[token] = context.get(token) if values[token] is None else values[token]
    for member in PATHS:
        values[member] = context.get(member) if values[member] is None else values[member]
    return Target(**{member: value or "" for member, value in values.items()}, debug=debug)


def target_of(ctx: "typer.Context") -> Target:
    """Where the command is to go; raises InvalidSetting for a wrong URL or token."""
    target: Target = ctx.obj
    return target.check()


def _run(asked: Coroutine[Any, Any, T]) -> T:
    import asyncio  # a fifth of the time that --help takes, which does not need it

    return asyncio.run(asked)


def _http(url: str, token: str, variable: str, target: Target) -> Any:
    # Half of the time that a command takes to start is this import, which --help does not need.
    from amalgam8.clients.http import Answer, Http, Query
    from amalgam8.clients.tls import client_context

    files = (Path(text) if text else None for text in (target.ca_cert, target.client_cert, target.client_key))
    tls = client_context(*files)

    class Shown(Http):
        async def request(
            self,
            method: str,
            path: str,
            body: Any = None,
            *,
            query: Query = (),
            headers: Mapping[str, str] | None = None,
            **rest: Any,
        ) -> Answer:
            name = variable if token else ""
            sys.stderr.write(curl(method, self.url + path, body, query, name, headers) + "\n")
            return await super().request(method, path, body, query=query, headers=headers, **rest)

    return (Shown if target.debug else Http)(url, token, tls=tls)


def curl(
    method: str, url: str, body: Any, query: Any, variable: str, headers: Mapping[str, str] | None = None
) -> str:
    """A shell line that sends the same request; ``variable`` is the name of the one with the token."""
    import msgspec

    words = ["curl", "-X", method, shlex.quote(url + (f"?{urlencode(query)}" if query else ""))]
    if variable:
        words += ["-H", f'"Authorization: Bearer ${variable}"']
    for header, value in (headers or {}).items():
        words += ["-H", shlex.quote(f"{header}: {value}")]
    if body is not None:
        text = body if isinstance(body, bytes) else msgspec.json.encode(body)
        words += ["-H", "'Content-Type: application/json'", "--data", shlex.quote(text.decode())]
    return " ".join(words)


def _url(server: str, text: str) -> str:
    try:
        return URL.read(text)
    except ValueError:
        flag = f"--{server}-url (A8_{server.upper()}_URL)"
        raise InvalidSetting(f"{flag}: {text!r} is not allowed; allowed: {URL.allowed}") from None


def _token(server: str, text: str) -> str:
    if text and not (text.isascii() and text.isprintable() and " " not in text):
        flag = f"--{server}-token (A8_{server.upper()}_TOKEN)"
        raise InvalidSetting(f"{flag}: (not shown) is not allowed; allowed: printable ASCII without spaces")
    return text
