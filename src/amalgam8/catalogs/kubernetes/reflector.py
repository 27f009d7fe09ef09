"""Mirrors one collection of the Kubernetes API: a list, then a watch from where the list ends.

A watch that ends is resumed after the last version seen; one whose version has been forgotten (410) leads to
a new list, which also tells what was deleted meanwhile. Late and repeated events of an object are dropped by
its version. Bookmarks move the place to resume at. Refuses to give up: pauses grow and are jittered.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, Protocol, TypeVar

import msgspec

from amalgam8.catalogs.kubernetes.connect import Connection
from amalgam8.catalogs.kubernetes.objects import Key, Object, Page, Status, WatchEvent, decode
from amalgam8.catalogs.refresh import Backoff, reason_of
from amalgam8.clients.http import Refusal
from amalgam8.model.errors import BadAnswer, Unavailable
from amalgam8.runtime.logs import Log

PAGE = 500
PAGES_LIMIT = 4000
LINE_LIMIT = 16 * 1024 * 1024
TOMBSTONES_LIMIT = 100_000

T = TypeVar("T", bound=Object)

_log = Log("catalogs")


class Pace(msgspec.Struct, frozen=True):
    """Seconds. ``watch``: how long the server is asked to keep a watch open; ``grace``: and then to end it.

    ``first`` and ``longest`` bound the pauses between attempts, ``settle`` gathers changes.
    """

    first: float = 0.5
    longest: float = 30.0
    watch: int = 240
    grace: float = 15.0
    settle: float = 0.05
    alive: float = 10.0


class Expired(Unavailable):
    """The server has forgotten the version that a watch would begin at."""

    code = "expired"


class Sink(Protocol[T]):
    """Whom a reflector tells."""

    def replaced(self, objects: dict[Key, T]) -> None:
        """All objects of the collection now."""

    def changed(self, key: Key, one: T | None) -> None:
        """One object now; None: it is gone."""

    def alive(self) -> None:
        """What was told is true now."""

    def failed(self, reason: str) -> None:
        """It cannot be read just now."""


class Reflector(Generic[T]):
    """The collection at ``path``, such as ``/api/v1/pods``."""

    def __init__(self, connection: Connection, path: str, kind: type[T], sink: Sink[T], pace: Pace) -> None:
        self._connection = connection
        self._path = path
        self._kind = kind
        self._sink = sink
        self._pace = pace
        self._version = ""
        """Where to resume; empty: a list is needed."""
        self._seen: dict[Key, str] = {}
        """Versions of objects, also of deleted ones, so that a late event does not bring those back."""
        self._gone = 0
        self._backoff = Backoff(pace.first, pace.longest)

    async def run(self) -> None:
        """Mirror until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Expired as error:
                self._version = ""
                _log.info("a watch of Kubernetes has to begin anew", path=self._path, reason=str(error))
            except (Unavailable, Refusal) as error:
                self._sink.failed(self._reason(error))
            await asyncio.sleep(self._backoff.next())

    async def _list(self) -> None:
        objects: dict[Key, T] = {}
        token = ""
        for _ in range(PAGES_LIMIT):
            query = [("limit", str(PAGE))] + ([("continue", token)] if token else [])
            try:
                page = decode(await self._connection.get(self._path, query), Page)
            except Refusal as refusal:
                raise Expired("the list took too long") if refusal.status == 410 else refusal from None
            for raw in page.items or ():
                one = self._decode(raw)
                if one is not None:
                    objects[one.metadata.key] = one
            token = page.metadata.continue_
            if not token:
                break
        else:
            raise BadAnswer(f"a list of more than {PAGES_LIMIT} pages")
        if not page.metadata.resource_version:
            raise BadAnswer("a list without a resourceVersion")
        self._version = page.metadata.resource_version
        self._seen = {key: one.metadata.resource_version for key, one in objects.items()}
        self._gone = 0
        self._sink.replaced(objects)

    async def _watch(self) -> None:
        pace = self._pace
        query = [
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version),
            ("timeoutSeconds", str(pace.watch)),
        ]
        began = asyncio.get_running_loop().time()
        try:
            async with (
                asyncio.timeout(pace.watch + pace.grace),
                self._connection.stream(self._path, query, silence=pace.watch + pace.grace) as chunks,
            ):
                self._sink.alive()
                async for line in lines(chunks):
                    self._take(decode(line, WatchEvent))
                    self._backoff.reset()
        except Refusal as refusal:
            if refusal.status == 410:
                raise Expired("410") from None
            if refusal.status in (400, 404):
                self._version = ""
            raise
        except TimeoutError:
            _log.debug("a watch of Kubernetes did not end in time and is opened again", path=self._path)
        if asyncio.get_running_loop().time() - began > pace.longest:
            self._backoff.reset()

    def _take(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            status = decode(event.object, Status)
            # Whatever it is, what comes after it is not to be relied on: begin with a list.
            self._version = ""
            if status.code == 410:
                raise Expired(status.message)
            raise BadAnswer(f"{status.code} {status.message}")
        if event.type == "BOOKMARK":
            self._advance(decode(event.object, Object).metadata.resource_version)
            self._sink.alive()
            return
        one = self._decode(event.object)
        if one is None or event.type not in ("ADDED", "MODIFIED", "DELETED"):
            return
        key, version = one.metadata.key, one.metadata.resource_version
        if not newer(version, self._seen.get(key, "")):
            return
        self._seen[key] = version
        self._advance(version)
        if event.type == "DELETED":
            self._gone += 1
            self._sink.changed(key, None)
            if self._gone > TOMBSTONES_LIMIT:
                raise Expired(f"{self._gone} deleted objects are remembered; a list forgets them")
        else:
            self._sink.changed(key, one)

    def _advance(self, version: str) -> None:
        if newer(version, self._version):
            self._version = version

    def _decode(self, raw: msgspec.Raw) -> T | None:
        try:
            one = decode(raw, self._kind)
        except BadAnswer as error:
            _log.warning("an object of Kubernetes cannot be read", path=self._path, reason=str(error))
            return None
        return one if one.metadata.name else None

    def _reason(self, error: Exception) -> str:
        what = self._path.rpartition("/")[2]
        if isinstance(error, Refusal) and error.status == 401:
            return f"{what}: the credentials are not accepted (401)"
        if isinstance(error, Refusal) and error.status == 403:
            return f"{what}: not allowed (403); the verbs list and watch are needed"
        return f"{what}: {reason_of(error)}"


def newer(version: str, known: str) -> bool:
    """Whether a resource version is above another; one that is no number is newer where they differ."""
    if version.isdecimal() and known.isdecimal():
        return int(version) > int(known)
    return version != known


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines that are not empty; what follows the last line break is no line yet and is dropped.

    Raises:
        BadAnswer: a line longer than LINE_LIMIT bytes.
    """
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        if b"\n" in chunk:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in whole:
                if line.strip():
                    yield line
        if len(rest) > LINE_LIMIT:
            raise BadAnswer(f"a line of a watch is longer than {LINE_LIMIT} bytes")
