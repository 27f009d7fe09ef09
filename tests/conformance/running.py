"""A proxy, the pool behind it, and the requests of cases sent through both."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from amalgam8.routing.decide import decide
from amalgam8.routing.resolve import ServiceRouting, resolve
from tests.conformance.case import NOW, OWN_SERVICE, Ask, Case
from tests.conformance.expect import LIMITED, Answer, assert_shares, check_answers
from tests.conformance.pool import TOKEN, Pool, Seen, pool
from tests.conformance.proxies import PROXIES, Proxy
from tests.sidecar.envoy.support import LIMIT, Client

PLACES = 6
MANY = 400
SEVERAL = 10
"""Requests that one instance must answer: if others could answer too, one of these would go there."""

NAMES = {"localhost": ("127.0.0.1",)}
"""What the sidecar would have looked up."""

USERS = 200


class Bench:
    """One proxy in front of the pool. Cases are applied to it one after the other."""

    def __init__(self, proxy: Proxy, found: Pool, dead: int) -> None:
        self.proxy = proxy
        self.pool = found
        self._dead = dead
        self._names: list[str] = []
        self._count = 0
        self._recorded: dict[str, int] = {}

    async def apply(self, case: Case) -> dict[str, ServiceRouting]:
        """Make the proxy follow the case's rules and instances."""
        given = case.given()
        self._names = [name for _, name, _ in given]
        ports = {
            name: self._dead if nature.dead else self.pool.ports[place]
            for place, (_, name, nature) in enumerate(given)
        }
        routing = resolve(case.plan(), case.registered(ports), NOW, NAMES)
        assert await self.proxy.apply(routing) == {}
        return routing

    async def follow(self, routing: dict[str, ServiceRouting], names: list[str]) -> dict[str, str]:
        """Make the proxy follow this; ``names`` are the instances by place. What was rejected."""
        self._names = names
        return await self.proxy.apply(routing)

    async def check(self, routing: dict[str, ServiceRouting], ask: Ask) -> None:
        """Send it as often as needed, and raise AssertionError where the answers are not as they must be."""
        self._count += 1
        token = str(self._count)
        if ask.each_user:
            await self._check_users(routing, ask, token)
            return
        times = ask.times or _times(routing, ask)
        if "/slow-" in ask.path:
            answers = list(await asyncio.gather(*(self._send(ask, token, 1) for _ in range(times))))
            check_answers(routing, ask, [answer for each in answers for answer in each])
        else:
            check_answers(routing, ask, await self._send(ask, token, times))
        if ask.copies is not None:
            await self._check_copies(ask, token, times)
        if ask.record is not None:
            await self._check_records(ask, times)

    async def send(self, ask: Ask, times: int) -> list[Answer]:
        """The answers to so many of these requests, one after the other."""
        self._count += 1
        return await self._send(ask, str(self._count), times)

    async def _send(self, ask: Ask, token: str, times: int) -> list[Answer]:
        answers: list[Answer] = []
        while len(answers) < times:
            async with Client(self.proxy.port) as client:
                while len(answers) < times:
                    answer = await self._one(client, ask, token)
                    answers.append(answer)
                    if answer.status == -1 or answer.headers.get("connection") == "close":
                        break
        return answers

    async def _one(self, client: Client, ask: Ask, token: str) -> Answer:
        headers = [*ask.pairs(), (TOKEN, token)]
        started = time.monotonic()
        try:
            reply = await client.ask(ask.path, headers, ask.method, b"x" * ask.body, chunked=ask.chunked)
        except (asyncio.IncompleteReadError, ConnectionError):
            return Answer(-1, "", time.monotonic() - started, {}, None)
        seconds = time.monotonic() - started
        place = reply.headers.get("x-place")
        seen = msgspec.json.decode(reply.body, type=Seen) if place and reply.body else None
        name = self._names[int(place)] if place else ""
        return Answer(reply.status, name, seconds, reply.headers, seen, reply.body)

    async def _check_users(self, routing: dict[str, ServiceRouting], ask: Ask, token: str) -> None:
        """Each user stays on one version, and users are shared out as the split says."""
        asks = []
        for number in range(USERS):
            cookie = ask.each_user.removeprefix("cookie:")
            header = (
                (ask.each_user, f"user-{number}")
                if cookie == ask.each_user
                else ("cookie", f"a=b; {cookie}=user-{number}")
            )
            asks.append(msgspec.structs.replace(ask, headers=[*ask.pairs(), header]))
        answers: list[Answer] = []
        for each in asks:
            found = await self._send(each, token, 3)
            assert len({self._version(routing, answer) for answer in found}) == 1, each.headers
            answers += found
        split = ask.split or {}
        versions = {name: self._version_of(routing, name) for name in split}
        shares = {
            version: sum(share for name, share in split.items() if versions[name] == version)
            for version in versions.values()
        }
        count = Counter(versions[answer.instance] for answer in answers[::3])
        assert_shares(count, shares, USERS)

    def _version(self, routing: dict[str, ServiceRouting], answer: Answer) -> int:
        return self._version_of(routing, answer.instance)

    def _version_of(self, routing: dict[str, ServiceRouting], instance: str) -> int:
        """The position of the backend that an instance belongs to, in the first route that has it."""
        for service in routing.values():
            for piece in service.routes[0].slices:
                if any(peer.id == instance for peer in service.peers[piece.target]):
                    return piece.backend
        raise AssertionError(instance)

    async def _check_records(self, ask: Ask, times: int) -> None:
        """The last records of this path have the members; one that is null must not be there."""
        end = time.monotonic() + 2 * LIMIT
        before = self._recorded.get(ask.path, 0)
        while (
            len(found := [each for each in self.proxy.records() if each["path"] == ask.path]) < before + times
        ):
            assert time.monotonic() < end, f"{len(found) - before} of {times} records"
            await asyncio.sleep(0.02)
        self._recorded[ask.path] = before + times
        for record in found[before:]:
            for member, value in (ask.record or {}).items():
                assert record.get(member) == value, f"{member} of {record}"

    async def _check_copies(self, ask: Ask, token: str, times: int) -> None:
        for name, share in (ask.copies or {}).items():
            place, expected = self._names.index(name), share * times
            slack = 5 * (expected * (1 - share)) ** 0.5
            end = time.monotonic() + LIMIT
            while self.pool.seen[token, place] < expected - slack:
                assert time.monotonic() < end, (
                    f"{name} got {self.pool.seen[token, place]} of {expected} copies"
                )
                await asyncio.sleep(0.01)
            assert self.pool.seen[token, place] <= expected + slack


def _times(routing: dict[str, ServiceRouting], ask: Ask) -> int:
    if ask.split is not None or (len(ask.statuses) > 1 and LIMITED not in ask.statuses):
        return MANY
    if ask.to and len(ask.to) > 1:
        return 20 * len(ask.to)
    once = not ask.to or ask.seconds or decide(routing, ask.request(), OWN_SERVICE).limits
    return 1 if once else SEVERAL


@contextlib.asynccontextmanager
async def bench(name: str, folder: Path, places: int = PLACES) -> AsyncIterator[Bench]:
    """The proxy of this name, started, until left."""
    proxy = PROXIES[name]()
    with socket.socket() as dead:  # bound, and nobody listens: connections are refused
        dead.bind(("127.0.0.1", 0))
        async with pool(places) as found:
            await proxy.start(folder)
            try:
                yield Bench(proxy, found, dead.getsockname()[1])
            finally:
                await proxy.stop()
