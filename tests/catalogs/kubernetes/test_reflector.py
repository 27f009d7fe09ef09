"""One collection over a real socket: lists, watches, cuts, forgotten versions, repeated and late events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

import pytest

from amalgam8.catalogs.kubernetes.connect import Connection, by_url
from amalgam8.catalogs.kubernetes.objects import Key, Pod
from amalgam8.catalogs.kubernetes.reflector import Reflector, lines, newer
from amalgam8.model.errors import BadAnswer
from tests.catalogs.kubernetes.cluster import QUICK, Cluster, pod
from tests.conftest import eventually
from tests.wire import served


class Mirror:
    """A Sink that keeps what it is told."""

    def __init__(self) -> None:
        self.pods: dict[str, str] = {}
        self.events = 0
        self.lists = 0
        self.lives = 0
        self.reasons: list[str] = []

    def replaced(self, objects: dict[Key, Pod]) -> None:
        self.lists += 1
        self.pods = {key[1]: _version(one) for key, one in objects.items()}

    def changed(self, key: Key, one: Pod | None) -> None:
        self.events += 1
        if one is None:
            self.pods.pop(key[1], None)
        else:
            self.pods[key[1]] = _version(one)

    def alive(self) -> None:
        self.lives += 1

    def failed(self, reason: str) -> None:
        self.reasons.append(reason)


def _version(one: Pod) -> str:
    return (one.metadata.labels or {})["version"]


def put(cluster: Cluster, **versions: str) -> None:
    for name, version in versions.items():
        cluster.put("pods", pod("shop", name, {"version": version}))


@contextlib.asynccontextmanager
async def mirrored(cluster: Cluster) -> AsyncIterator[Mirror]:
    mirror = Mirror()
    async with served(cluster) as port:
        connection = Connection(by_url(f"http://127.0.0.1:{port}"))
        reflector = Reflector(connection, "/api/v1/namespaces/shop/pods", Pod, mirror, QUICK)
        task = asyncio.ensure_future(reflector.run())
        try:
            yield mirror
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])
            await connection.close()
            cluster.cut()


async def holds(mirror: Mirror, **versions: str) -> None:
    async def check() -> bool:
        return mirror.pods == versions

    await eventually(check, what=f"{versions}; {mirror.pods}")


async def watching(cluster: Cluster, count: int = 1) -> None:
    async def check() -> bool:
        return cluster.watches >= count

    await eventually(check, what="a watch")


async def test_a_list_and_then_what_changes() -> None:
    cluster = Cluster()
    put(cluster, a="1", b="1")
    async with mirrored(cluster) as mirror:
        await holds(mirror, a="1", b="1")
        put(cluster, a="2", c="1")
        cluster.remove("pods", ("shop", "b"))
        await holds(mirror, a="2", c="1")
    assert mirror.lists == 1
    assert not mirror.reasons


async def test_a_list_in_pages() -> None:
    cluster = Cluster()
    cluster.page = 2
    put(cluster, a="1", b="1", c="1", d="1", e="1")
    async with mirrored(cluster) as mirror:
        await holds(mirror, a="1", b="1", c="1", d="1", e="1")
    assert mirror.lists == 1
    assert [query.get("continue") for _, query in cluster.asked[:3]] == [None, "2", "4"]


@pytest.mark.parametrize("within_line", [False, True])
async def test_a_lost_watch_goes_on_where_it_was(within_line: bool) -> None:
    cluster = Cluster()
    put(cluster, a="1")
    async with mirrored(cluster) as mirror:
        await watching(cluster)
        put(cluster, a="2")
        await holds(mirror, a="2")
        for version in "345":
            cluster.cut(within_line=within_line)
            put(cluster, a=version)
            await holds(mirror, a=version)
            await watching(cluster)
    assert mirror.lists == 1
    assert mirror.reasons, "a lost connection is something to say"


async def test_a_forgotten_version_leads_to_a_list_that_tells_what_was_deleted() -> None:
    cluster = Cluster()
    put(cluster, a="1", b="1")
    async with mirrored(cluster) as mirror:
        await watching(cluster)
        cluster.held = True
        cluster.remove("pods", ("shop", "b"))
        put(cluster, a="2")
        cluster.forget()
        cluster.cut()
        await holds(mirror, a="2")
        assert mirror.lists == 2
        cluster.release()
        put(cluster, a="3")
        await holds(mirror, a="3")
    assert all("cannot be reached" in reason for reason in mirror.reasons)


async def test_a_forgotten_version_as_a_status() -> None:
    cluster = Cluster()
    put(cluster, a="1")
    async with mirrored(cluster) as mirror:
        await watching(cluster)
        cluster.refused["pods"] = 410
        cluster.cut()

        async def asked_again() -> bool:
            return cluster.lists("pods") > 2

        await eventually(asked_again)
        cluster.refused.clear()
        put(cluster, a="2")
        await holds(mirror, a="2")


async def test_a_bookmark_moves_the_place_to_resume_at() -> None:
    cluster = Cluster()
    put(cluster, a="1")
    async with mirrored(cluster) as mirror:
        await watching(cluster)
        for name in ("x", "y"):
            cluster.put("services", {"kind": "Service", "metadata": {"name": name, "namespace": "shop"}})
        lives = mirror.lives
        cluster.bookmark("pods")

        async def heard() -> bool:
            return mirror.lives > lives

        await eventually(heard)
        cluster.forget()
        put(cluster, a="2")
        cluster.cut()
        await holds(mirror, a="2")
    assert mirror.lists == 1, "without the bookmark it would have to list again"


async def test_events_that_come_twice_count_once() -> None:
    cluster = Cluster()
    cluster.twice = True
    async with mirrored(cluster) as mirror:
        await watching(cluster)
        put(cluster, a="1", b="1")
        cluster.remove("pods", ("shop", "a"))
        await holds(mirror, b="1")
        put(cluster, c="1")
        await holds(mirror, b="1", c="1")
    assert mirror.events == 4


async def test_a_late_event_brings_nothing_back() -> None:
    cluster = Cluster()
    async with mirrored(cluster) as mirror:
        await watching(cluster)
        cluster.held = True
        put(cluster, a="1", b="1")
        put(cluster, a="2")
        cluster.remove("pods", ("shop", "b"))
        cluster.log.reverse()
        cluster.release()
        await holds(mirror, a="2")
        put(cluster, c="1")
        await holds(mirror, a="2", c="1")


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "not accepted"), (403, "not allowed"), (500, "500"), (429, "429"), (404, "404")],
)
async def test_a_refusal_is_said_and_tried_again(status: int, said: str) -> None:
    cluster = Cluster()
    cluster.refuse = status
    put(cluster, a="1")
    async with mirrored(cluster) as mirror:

        async def refused() -> bool:
            return len(mirror.reasons) > 2

        await eventually(refused)
        assert said in mirror.reasons[0]
        assert mirror.reasons[0].startswith("pods:")
        assert mirror.lists == 0
        cluster.refuse = 0
        await holds(mirror, a="1")


async def test_another_error_in_a_watch_leads_to_a_list() -> None:
    cluster = Cluster()
    put(cluster, a="1")
    async with mirrored(cluster) as mirror:
        await watching(cluster)
        cluster.error("pods", 500, "storage is (re)initializing")

        async def listed_again() -> bool:
            return cluster.lists("pods") == 2

        await eventually(listed_again)
        put(cluster, a="2")
        await holds(mirror, a="2")


async def test_an_object_that_cannot_be_read_is_left_out() -> None:
    cluster = Cluster()
    put(cluster, a="1")
    broken = pod("shop", "odd", {"version": "1"})
    broken["metadata"]["labels"] = "none"
    cluster.put("pods", broken)
    async with mirrored(cluster) as mirror:
        await holds(mirror, a="1")
        cluster.put("pods", broken)
        put(cluster, a="2")
        await holds(mirror, a="2")


@pytest.mark.parametrize(
    ("version", "known", "is_newer"),
    [
        ("10", "9", True),
        ("9", "10", False),
        ("9", "9", False),
        ("9", "", True),
        ("a", "b", True),
        ("a", "a", False),
    ],
)
def test_versions_are_numbers_where_they_look_like_it(version: str, known: str, is_newer: bool) -> None:
    assert newer(version, known) is is_newer


async def cut_up(*chunks: bytes) -> list[bytes]:
    async def stream(some: Iterable[bytes]) -> AsyncIterator[bytes]:
        for one in some:
            yield one

    return [line async for line in lines(stream(chunks))]


async def test_lines_come_in_any_pieces() -> None:
    assert await cut_up(b"a", b"b\nc", b"d\n\n e\nf\n", b"half") == [b"ab", b"cd", b" e", b"f"]


async def test_a_line_has_a_limit() -> None:
    with pytest.raises(BadAnswer, match="longer than"):
        await cut_up(*[b"x" * 1_000_000] * 18)
