"""The recordings can be read, and what is none of these objects is refused."""

import pytest

from amalgam8.catalogs.kubernetes.objects import Object, Page, Pod, Service, Slice, Status, WatchEvent, decode
from amalgam8.model.errors import BadAnswer
from tests.catalogs.kubernetes.cluster import RECORDINGS


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("endpointslices", Slice, 5),
        ("pods", Pod, 5),
        ("services", Service, 4),
        ("namespace-endpointslices", Slice, 1),
    ],
)
def test_recorded_lists(name: str, kind: type[Object], count: int) -> None:
    page = decode((RECORDINGS / f"{name}.list.json").read_bytes(), Page)
    objects = [decode(raw, kind) for raw in page.items or ()]
    assert len(objects) == count
    assert page.metadata.resource_version.isdecimal()
    assert all(one.metadata.name and one.metadata.resource_version for one in objects)


@pytest.mark.parametrize("name", ["endpointslices.watch.jsonl", "endpointslices.streaming-list.jsonl"])
def test_recorded_watches_of_slices(name: str) -> None:
    for line in (RECORDINGS / name).read_bytes().splitlines():
        event = decode(line, WatchEvent)
        one = decode(event.object, Slice)
        assert (event.type == "BOOKMARK") == (not one.metadata.name)
        assert event.type == "BOOKMARK" or one.service


def test_a_recorded_error() -> None:
    event = decode((RECORDINGS / "watch-expired.jsonl").read_bytes(), WatchEvent)
    assert event.type == "ERROR"
    assert decode(event.object, Status).code == 410


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"metadata": 3}', b"\xff", b"[" * 100_000])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer, match="no Pod"):
        decode(data, Pod)
