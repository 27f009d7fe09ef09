"""The mirror of a tenant: what is known of the latest changes."""

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook
from amalgam8.controller.store import TOUCHED_LENGTH, Mirror
from amalgam8.runtime.feed import Gap
from tests.controller.rules import route, write


async def test_what_was_touched() -> None:
    mirror = Mirror(Rulebook())
    for number, name in enumerate("aba"):
        mirror.take(rulebook.create(mirror.book, [route(f"rule-{number}", name)], write()))
    assert [mirror.touched_since(n) for n in range(4)] == [{"a", "b"}, {"a", "b"}, {"a"}, set()]


async def test_a_mirror_of_stored_rules_knows_what_its_log_knows() -> None:
    mirror = Mirror(Rulebook(revision=7), [(6, frozenset({"a"})), (7, frozenset({"b"}))])
    assert mirror.touched_since(6) == {"b"}
    assert mirror.touched_since(5) == {"a", "b"}
    for unknown in (4, 8):
        with pytest.raises(Gap):
            mirror.touched_since(unknown)
    bare = Mirror(Rulebook(revision=7))
    assert bare.touched_since(7) == set()
    with pytest.raises(Gap):
        bare.touched_since(6)


async def test_the_memory_is_bounded() -> None:
    mirror = Mirror(Rulebook())
    for _ in range(TOUCHED_LENGTH + 5):
        mirror.take(rulebook.remove(mirror.book, rulebook.Selection(), write()))
    assert mirror.touched_since(5) == set()
    with pytest.raises(Gap):
        mirror.touched_since(4)
