"""The instances that the registry knows, as far as the controller is asked about them: to explain calls.

One stream for each tenant that asks, from its first question on. Stale beats empty, as in a sidecar: a lost
stream takes nothing away. Refuses to guess: a tenant that the registry's token is not for, or that was not
seen yet, has no instances that are known, which is not the same as none.
"""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable

import msgspec

from amalgam8.clients.http import Http
from amalgam8.clients.instances import Groups, InstanceView
from amalgam8.clients.registry import RegistryClient
from amalgam8.clients.watch import Lost
from amalgam8.model.errors import ProtocolMismatch
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.web.auth import DEFAULT

FIRST_WITHIN = 2.0
"""Seconds that a tenant's first question waits for the instances."""

FOLLOWED_LIMIT = 1000
"""Tenants that are followed; later ones have no instances that are known."""

REFUSED_PAUSE = 5.0
"""Seconds between attempts at a registry that speaks another protocol."""

Connect = Callable[[str], Http | None]
"""Makes a client that sees a tenant's instances; None: there is no way to."""

_log = Log("catalogue")


class Catalogue:
    """Instances by tenant, once ``run`` runs. ``clock`` is steady, in seconds."""

    def __init__(self, clock: Callable[[], float], connect: Connect = lambda _tenant: None) -> None:
        self._clock = clock
        self._connect = connect
        self._followed: dict[str, _Followed] = {}
        self._wanted = Latest(0)

    async def groups(self, tenant: str) -> Groups | None:
        """The tenant's instances that take calls, by service; None: not known."""
        followed = self._followed.get(tenant)
        if followed is None:
            if len(self._followed) >= FOLLOWED_LIMIT or (http := self._connect(tenant)) is None:
                return None
            followed = self._followed[tenant] = _Followed(tenant, http)
            self._wanted.set(len(self._followed))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WITHIN):
                await followed.told.wait()
        followed.view.expire(self._clock())
        return followed.view.seen.groups if followed.view.seen is not None else None

    async def run(self) -> None:
        """Follow whoever asks; never returns."""
        running: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                version = self._wanted.version
                for name in self._followed.keys() - running:
                    running.add(name)
                    tasks.create_task(self._followed[name].run(self._clock))
                await self._wanted.newer(version)


class _Followed:
    """One tenant's stream. ``told`` is set once it has come, or is known not to come just now."""

    def __init__(self, tenant: str, http: Http) -> None:
        self.view = InstanceView()
        self.told = asyncio.Event()
        self._tenant = tenant
        self._http = http
        self._there: bool | None = None

    async def run(self, clock: Callable[[], float]) -> None:
        try:
            while True:
                try:
                    watch = RegistryClient(self._http).watch()
                    async with contextlib.aclosing(watch.events()) as events:
                        async for event in events:
                            self._take(event, clock())
                except ProtocolMismatch as error:
                    self._take(Lost(error, REFUSED_PAUSE), clock())
                    await asyncio.sleep(REFUSED_PAUSE)
        finally:
            await self._http.close()

    def _take(self, event: Hello | InstanceSnapshot | InstanceDelta | Lost, now: float) -> None:
        match event:
            case Hello():
                self.view.hello(event, now)
            case InstanceSnapshot():
                self.view.snapshot(event)
                self._turn(there=True)
            case InstanceDelta():
                self.view.delta(event)
                self._turn(there=True)
            case Lost():
                self.view.lost()
                self._turn(there=False, error=event.error)

    def _turn(self, *, there: bool, **words: object) -> None:
        self.told.set()
        if there is self._there:
            return
        self._there = there
        if there:
            _log.info("following the registry", tenant=self._tenant)
        else:
            said = "the registry is not there, going on with what is known"
            _log.warning(said, tenant=self._tenant, **words)


def whose(token: str) -> str:
    """The tenant that a registry's token is for, as the token itself says, or ADMIN.

    It is not checked here: the registry does that. Asking with one tenant's token on behalf of another would
    be answered with the first one's instances.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return token or DEFAULT  # mode trusted, or nobody in particular
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        return token
    name = claims.get("namespace") if isinstance(claims, dict) else None
    return name if isinstance(name, str) else token
