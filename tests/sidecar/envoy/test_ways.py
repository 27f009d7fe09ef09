"""How a path finds its service, and what the instance sees of it, on a real Envoy."""

from typing import Any

import pytest

from amalgam8.sidecar.envoy.ways import named_host, unavailable
from tests.sidecar.envoy.support import Mesh, backends, simple


@pytest.mark.parametrize(
    ("path", "name", "seen"),
    [
        ("/a", "short", "/"),
        ("/a?q=/x", "short", "/?q=/x"),
        ("/a/", "short", "/"),
        ("/a/ab/", "short", "/ab/"),
        ("/a//b?c", "short", "//b?c"),
        ("/ab", "long", "/"),
        ("/ab?", "long", "/?"),
        ("/ab/a", "long", "/a"),
    ],
)
async def test_a_segment_leads_to_its_service_alone_and_below(
    mesh: Mesh, path: str, name: str, seen: str
) -> None:
    async with backends("short", "long") as (short, long):
        await mesh.follow(simple("a", short.peer()), simple("ab", long.peer()))
        call = (await mesh.ask(path)).call
        assert (call.name, call.path) == (name, seen)


@pytest.mark.parametrize("path", ["/abc", "/abc/", "/abc?ab", "/A/", "/%61/", "//a/", "/"])
async def test_no_other_segment_does(mesh: Mesh, path: str) -> None:
    async with backends("short", "long") as (short, long):
        await mesh.follow(simple("a", short.peer()), simple("ab", long.peer()))
        answer = await mesh.ask(path)
        assert (answer.status, answer.headers.get("x-a8-reason", "")[:7]) == (404, "unknown")


def test_a_service_of_which_nothing_is_rendered_has_both_ways() -> None:
    found = unavailable("a")
    assert b"/a/" in found.body
    assert b"host a" in found.host


@pytest.mark.parametrize("name", ["a*", "a b", "a\x7f"])
def test_what_can_be_no_host_is_none(name: str) -> None:
    tree: Any = None
    assert named_host(name, tree) == b""
