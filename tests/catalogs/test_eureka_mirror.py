"""What a Eureka server knows, by deltas: the mirror is right, or says that it is not."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from amalgam8.catalogs.eureka_document import PUBLISHED_KEY, Applications, hashcode
from amalgam8.catalogs.eureka_mirror import NO_VERSION, Mirror
from tests.catalogs.eureka_server import document

Document = dict[str, Any]


def one(key: str, status: str = "UP", action: str = "ADDED", **more: Any) -> Document:
    return {**document("A", key, 80, status=status), "actionType": action, **more}


def ids(mirror: Mirror) -> list[str]:
    return sorted(instance.id for instance in mirror.instances())


def full(*documents: Document) -> Mirror:
    mirror = Mirror()
    mirror.full(Applications(1, None, documents))
    return mirror


def test_a_delta_adds_modifies_and_deletes() -> None:
    mirror = full(one("x"), one("y"))
    assert mirror.delta(
        Applications(2, "DOWN_1_UP_1_", (one("z"), one("x", "DOWN", "MODIFIED"), one("y", action="DELETED")))
    )
    assert ids(mirror) == ["a:x", "a:z"]
    assert {instance.status for instance in mirror.instances()} == {"UP", "DOWN"}


def test_another_hash_needs_a_full_document() -> None:
    assert not full(one("x")).delta(Applications(2, "UP_2_", ()))


def test_the_same_version_is_skipped_but_checked() -> None:
    mirror = full(one("x"))
    assert mirror.delta(Applications(2, "UP_2_", (one("y"),)))
    assert mirror.delta(Applications(2, "UP_2_", (one("z"),)))
    assert ids(mirror) == ["a:x", "a:y"]
    assert not mirror.delta(Applications(2, "UP_3_", (one("z"),)))


def test_no_delta_without_a_version_a_hash_or_a_beginning() -> None:
    assert not Mirror().delta(Applications(2, "", ()))
    for version, code in ((None, "UP_1_"), (NO_VERSION, "UP_1_"), (2, None)):
        assert not full(one("x")).delta(Applications(version, code, ()))


def test_a_full_document_forgets_the_rest() -> None:
    mirror = full(one("x"), one("y"))
    mirror.full(Applications(5, "UP_1_", (one("z"),)))
    assert ids(mirror) == ["a:z"]


def test_what_is_not_shown_counts_in_the_hash() -> None:
    unreadable = one("bad", port={"$": 0, "@enabled": "true"})
    published = one("ours", metadata={PUBLISHED_KEY: "true"})
    mirror = full(one("x"), unreadable, published)
    assert ids(mirror) == ["a:x"]
    assert mirror.problems.total() == 1
    assert mirror.delta(Applications(2, "UP_3_", ()))
    assert mirror.delta(Applications(3, "UP_2_", (one("ours", action="DELETED"),)))


STEPS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from(["UP", "DOWN", "gone"])), min_size=1, max_size=20
)


@given(STEPS, st.integers(1, 4))
def test_following_deltas_leads_to_what_the_server_knows(steps: list[tuple[str, str]], every: int) -> None:
    server: dict[str, str] = {}
    recent: list[Document] = []
    mirror = full()
    for version, (key, status) in enumerate(steps, start=2):
        if status == "gone":
            if key not in server:
                continue
            recent.append(one(key, server.pop(key), "DELETED"))
        else:
            recent.append(one(key, status, "MODIFIED" if key in server else "ADDED"))
            server[key] = status
        if version % every == 0:
            assert mirror.delta(Applications(version, hashcode(server.values()), tuple(recent)))
            assert ids(mirror) == sorted(f"a:{key}" for key in server)
