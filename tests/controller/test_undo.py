"""Taking back: what a rollback restores, and what becomes of a change that nobody confirmed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.controller import rulebook, undo
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.rulebook import Selection
from amalgam8.model.errors import A8Error, NothingToConfirm, RevisionNotFound, Superseded
from amalgam8.model.rule import Rule
from tests.controller.rules import NOON, fault, route, write


class Line:
    """A line of revisions: the book now and its log, newest first."""

    def __init__(self) -> None:
        self.book = Rulebook()
        self.log: list[Change] = []
        self.past = [self.book]

    def take(self, change: Change | None) -> Change:
        assert change is not None
        self.book = apply(self.book, change)
        self.log.insert(0, change)
        self.past.append(self.book)
        return change

    def create(self, *rules: Rule, now: float = NOON, confirm_within: float | None = None) -> Change:
        return self.take(rulebook.create(self.book, rules, write(now, confirm_within=confirm_within)))

    def replace(self, *rules: Rule, now: float = NOON, confirm_within: float | None = None) -> Change:
        return self.take(rulebook.replace(self.book, rules, write(now, confirm_within=confirm_within)))

    def remove(self, *ids: str, now: float = NOON, confirm_within: float | None = None) -> Change:
        new = write(now, confirm_within=confirm_within)
        return self.take(rulebook.remove(self.book, Selection(ids=ids), new))

    def revert(self, now: float) -> Change:
        return self.take(undo.revert(self.book, write(now)))

    def versions(self) -> dict[str, str]:
        return {
            name: rule.route.backends[0].tags[0] if rule.route else "fault"
            for name, rule in sorted(self.book.rules.items())
        }


def test_a_rollback_is_a_new_revision_with_the_old_rules() -> None:
    line = Line()
    line.create(route("a"), route("b"))
    line.replace(route("a", version="v2"), now=NOON + 1)
    line.remove("b", now=NOON + 2)
    line.create(route("c"), now=NOON + 3)
    change = line.take(undo.rollback(line.book, line.log, 1, write(NOON + 9, author="eve")))
    assert (change.revision, change.cause, change.about, change.author) == (5, "rollback", (1,), "eve")
    assert line.book.rules == line.past[1].rules  # ages and all
    assert sorted(rule.id for rule in change.before) == ["a", "c"]
    assert sorted(rule.id for rule in change.after) == ["a", "b"]


def test_a_rollback_leaves_alone_what_is_the_same() -> None:
    line = Line()
    line.create(route("a"), route("b"))
    line.replace(route("b", version="v2"))
    change = undo.rollback(line.book, line.log, 1, write())
    assert change.ids == {"b"}
    assert undo.rollback(line.book, line.log, 2, write()).ids == set()


def test_a_rollback_never_revives_a_lapsed_rule() -> None:
    line = Line()
    line.create(route("a"), fault("f", ttl=5.0), fault("g", ttl=500.0))
    line.take(rulebook.lapse(line.book, write(NOON + 5)))
    line.remove("a", "g")
    line.take(undo.rollback(line.book, line.log, 1, write(NOON + 60)))
    assert sorted(line.book.rules) == ["a", "g"]


@pytest.mark.parametrize("revision", [-1, 4, 99])
def test_a_revision_that_never_was(revision: int) -> None:
    line = Line()
    for name in "abc":
        line.create(route(name))
    with pytest.raises(RevisionNotFound, match="the newest is 3"):
        undo.rollback(line.book, line.log, revision, write())


def test_a_history_that_does_not_reach_is_no_guess() -> None:
    line = Line()
    for name in "abcd":
        line.create(route(name))
    with pytest.raises(RevisionNotFound, match="the oldest to go back to is 2"):
        undo.rollback(line.book, line.log[:2], 1, write())
    assert undo.rollback(line.book, line.log[:2], 2, write()).ids == {"c", "d"}
    for stale in (line.log[1:], []):
        with pytest.raises(Superseded):
            undo.rollback(line.book, stale, 1, write())


def test_to_nothing_at_all() -> None:
    line = Line()
    line.create(route("a"))
    line.take(undo.rollback(line.book, line.log, 0, write()))
    assert line.book.rules == {}


def test_an_unconfirmed_change_is_undone_when_its_time_is_over() -> None:
    line = Line()
    line.create(route("a"), route("gone"))
    line.replace(route("a", version="v2"), confirm_within=30)
    line.create(route("new"), confirm_within=20)
    line.remove("gone", confirm_within=30)
    assert undo.revert(line.book, write(NOON + 19.9)) is None
    change = line.revert(NOON + 20)
    assert (change.cause, change.about) == ("revert", (3,))
    assert line.versions() == {"a": "v2"}
    assert line.revert(NOON + 30).about == (4,)
    assert line.revert(NOON + 30).about == (2,)
    assert line.versions() == {"a": "v1", "gone": "v1"}
    assert undo.revert(line.book, write(NOON + 999)) is None


def test_confirmed_it_stays() -> None:
    line = Line()
    line.create(route("a"), confirm_within=30)
    change = line.take(undo.confirm(line.book, 1, write(NOON + 29)))
    assert (change.revision, change.cause, change.about, change.ids) == (2, "confirm", (1,), frozenset())
    assert undo.revert(line.book, write(NOON + 999)) is None
    with pytest.raises(NothingToConfirm):
        undo.confirm(line.book, 1, write(NOON + 29))


def test_too_late_to_confirm() -> None:
    line = Line()
    line.create(route("a"), confirm_within=30)
    for now, revision in ((NOON + 30, 1), (NOON, 2)):
        with pytest.raises(NothingToConfirm):
            undo.confirm(line.book, revision, write(now))
    with pytest.raises(A8Error, match="cannot itself wait"):
        undo.confirm(line.book, 1, write(confirm_within=5))


def test_only_what_nobody_touched_since_is_undone() -> None:
    line = Line()
    line.create(route("a"), route("b"), route("c"))
    line.replace(*[route(name, version="v2") for name in "abc"], confirm_within=30)
    line.replace(route("a", version="v3"))
    line.remove("b")
    line.revert(NOON + 30)
    assert line.versions() == {"a": "v3", "c": "v1"}


def test_what_was_deleted_and_made_anew_by_another_stays() -> None:
    line = Line()
    line.create(route("a"))
    line.remove("a", confirm_within=30)
    line.create(route("a", version="v9"))
    line.remove("a")
    line.revert(NOON + 30)
    assert line.versions() == {}


def test_undoing_never_revives_a_lapsed_rule_and_survives_a_lapse() -> None:
    line = Line()
    line.create(fault("f", ttl=20.0), route("a"))
    line.replace(route("a", version="v2", ttl=5.0), confirm_within=30)
    line.remove("f", confirm_within=30)
    line.take(rulebook.lapse(line.book, write(NOON + 6)))
    line.revert(NOON + 30)
    line.revert(NOON + 30)
    assert line.versions() == {"a": "v1"}


steps = st.lists(
    st.tuples(st.sampled_from(["create", "replace", "remove", "lapse", "rollback"]), st.sampled_from("abcd")),
    max_size=12,
)


@given(steps, st.integers(0, 12), st.sampled_from([None, 7.0]))
def test_back_is_where_it_was(script: list[tuple[str, str]], target: int, ttl: float | None) -> None:
    """Whatever happened, the rules are then those of that revision which have not lapsed."""
    line, now = Line(), NOON
    for number, (name, rule) in enumerate(script):
        now += 1
        made = route(rule, version=f"v{number}", ttl=ttl)
        try:
            if name == "create":
                line.create(made, now=now)
            elif name == "replace":
                line.replace(made, now=now)
            elif name == "remove":
                line.remove(rule, now=now)
            elif name == "rollback":
                line.take(undo.rollback(line.book, line.log, line.book.revision // 2, write(now)))
            elif (change := rulebook.lapse(line.book, write(now))) is not None:
                line.take(change)
        except A8Error:
            continue
    target = min(target, line.book.revision)
    expected = {
        name: rule
        for name, rule in line.past[target].rules.items()
        if rule.expires_at is None or rule.expires_at > now
    }
    line.take(undo.rollback(line.book, line.log, target, write(now)))
    assert line.book.rules == expected
