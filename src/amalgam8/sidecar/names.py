"""Looks up the host names of instances, for whichever proxy: addresses by name, kept up to date.

The system's own way of looking names up is used (``/etc/hosts``, its resolver, its search list), so no server
is named here. It does not tell how long an answer holds, so each name is asked for again every REFRESH
seconds. Stale beats empty: a name that cannot be looked up keeps the addresses of its last answer, and one
that never had any is missing; neither has a say in anything else. Refuses to know proxies.
"""

import asyncio
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterable, Mapping

from amalgam8.model.instance import Instance, address_of
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.sidecar.follow import Seen

REFRESH = 5.0
NAMES_LIMIT = 1000
"""Different host names; those above it are not looked up."""

PLACES_LIMIT = 16
"""Addresses of one name that are used."""

AT_ONCE = 32

Lookup = Callable[[str], list[str]]
Answers = Mapping[str, tuple[str, ...]]

_log = Log("sidecar.names")


def system_lookup(host: str) -> list[str]:
    """All addresses of a name, in the system's order of preference; takes as long as the system takes.

    Raises:
        OSError: there are none, or nobody could tell.
        ValueError: it cannot be a host name.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Names:
    """Follows the instances that are seen, and gives ``take`` the answers when one of them has changed.

    ``salt`` is different in each sidecar: of several addresses, they do not all prefer the same one.
    """

    def __init__(
        self,
        seen: Latest[Seen],
        take: Callable[[Answers], None],
        salt: str = "",
        lookup: Lookup = system_lookup,
        refresh: float = REFRESH,
    ) -> None:
        self._seen = seen
        self._take = take
        self._salt = salt
        self._lookup = lookup
        self._refresh = refresh
        self._groups: Mapping[str, tuple[Instance, ...]] = {}
        self._hosts: dict[str, frozenset[str]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._many = False
        self.answers: dict[str, tuple[str, ...]] = {}

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            async for seen in self._seen.follow():
                if seen.instances is None or seen.instances.groups is self._groups:
                    continue
                wanted = self._wanted(seen.instances.groups)
                for host in self._asking.keys() - wanted:
                    self._asking.pop(host).cancel()
                    self.answers.pop(host, None)
                for host in sorted(wanted - self._asking.keys()):
                    self._asking[host] = tasks.create_task(self._keep(host))

    def _wanted(self, groups: Mapping[str, tuple[Instance, ...]]) -> set[str]:
        """The host names of all instances; only groups that changed are looked at."""
        before, self._groups = self._groups, groups
        for service in before.keys() - groups.keys():
            self._hosts.pop(service, None)
        for service, group in groups.items():
            if group is not before.get(service):
                if found := frozenset(_names(group)):
                    self._hosts[service] = found
                else:
                    self._hosts.pop(service, None)
        wanted = set().union(*self._hosts.values())
        if len(wanted) <= NAMES_LIMIT:
            self._many = False
            return wanted
        if not self._many:
            self._many = True
            _log.warning("too many host names, the last of them are not looked up", limit=NAMES_LIMIT)
        return set(sorted(wanted)[:NAMES_LIMIT])

    async def _keep(self, host: str) -> None:
        """Ask for one name again and again."""
        failing = False
        while True:
            try:
                async with self._at_once:
                    found = await _in_a_thread(self._lookup, host)
            except (OSError, ValueError, RuntimeError) as error:  # the last: no thread can be started
                if not failing:
                    kept = self.answers.get(host, ())
                    _log.warning("a host name cannot be looked up", host=host, reason=error, kept=list(kept))
                failing = True
            else:
                if failing:
                    _log.info("a host name can be looked up again", host=host)
                failing = False
                self._answered(host, found)
            await asyncio.sleep(self._refresh)

    def _answered(self, host: str, found: list[str]) -> None:
        places = tuple(self._ordered(found))
        if places and places != self.answers.get(host):
            self.answers[host] = places
            _log.debug("looked up", host=host, addresses=list(places))
            self._take(dict(self.answers))

    def _ordered(self, found: Iterable[str]) -> list[str]:
        """The same order for the same addresses, however they came; the first one's family first."""
        distinct = list(dict.fromkeys(address.partition("%")[0] for address in found))
        first_is_v6 = bool(distinct) and ":" in distinct[0]

        def rank(address: str) -> tuple[bool, bytes]:
            digest = hashlib.blake2b(f"{self._salt} {address}".encode(), digest_size=8).digest()
            return (":" in address) != first_is_v6, digest

        return sorted(distinct, key=rank)[:PLACES_LIMIT]


def _names(group: Iterable[Instance]) -> Iterable[str]:
    for instance in group:
        address = address_of(instance.endpoint)
        if address is not None and not address.is_ip:
            yield address.host


async def _in_a_thread(lookup: Lookup, host: str) -> list[str]:
    """The lookup's result. Its thread ends with the process: nothing waits for a resolver that hangs."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | Exception) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def work() -> None:
        try:
            found: list[str] | Exception = lookup(host)
        except (OSError, ValueError) as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=work, name=f"lookup {host}", daemon=True).start()
    return await answer
