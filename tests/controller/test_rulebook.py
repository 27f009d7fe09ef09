"""What writes mean: pure operations on a Rulebook, in a time of the test's own."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.controller import book as book_module
from amalgam8.controller import rulebook
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.rulebook import KEPT_LIMIT, Selection
from amalgam8.model.errors import (
    A8Error,
    InvalidRule,
    RuleElsewhere,
    RuleExists,
    RuleNotFound,
    TooManyRules,
)
from amalgam8.model.rule import Rule, rfc3339
from tests.controller.rules import NOON, fault, route, write

ALL = Selection()


def made(*rules: Rule, now: float = NOON) -> Rulebook:
    return book_module.apply(Rulebook(), rulebook.create(Rulebook(), rules, write(now)))


def ids(book: Rulebook, selection: Selection = ALL) -> list[str]:
    return [rule.id for rule in rulebook.select(book, selection)]


def test_create_gives_ids_ages_and_a_revision() -> None:
    change = rulebook.create(Rulebook(), [route("b"), route(), route("a")], write())
    assert [rule.id for rule in change.after] == ["b", "new-0", "a"]
    assert [rule.created for rule in change.after] == [rfc3339(NOON + i / 1e6) for i in range(3)]
    assert (change.revision, change.cause, change.at) == (1, "create", rfc3339(NOON))
    assert (change.before, change.request_id) == ((), "r-1")


def test_earlier_in_the_list_is_older_and_stands_first() -> None:
    assert ids(made(route("z"), route("a"), route("m", priority=1))) == ["m", "z", "a"]


def test_ages_grow_even_where_the_clock_goes_back() -> None:
    book = made(route("first"))
    book = book_module.apply(book, rulebook.create(book, [route("second")], write(NOON - 500)))
    assert ids(book) == ["first", "second"]
    book = book_module.apply(book, rulebook.remove(book, Selection(), write()))
    book = book_module.apply(book, rulebook.create(book, [route("third")], write(NOON - 500)))
    assert book.rules["third"].created == rfc3339(NOON + 2e-6)


def test_create_refuses_an_id_that_is_taken() -> None:
    with pytest.raises(RuleExists, match="b"):
        rulebook.create(made(route("b")), [route("a"), route("b")], write())


def test_replace_keeps_age_and_changes_everything_else() -> None:
    book = made(route("a"), route("b"))
    change = rulebook.replace(book, [route("a", "ratings", "v9", priority=3)], write(NOON + 60))
    after = book_module.apply(book, change)
    assert after.rules["a"] == route("a", "ratings", "v9", priority=3, created=rfc3339(NOON))
    assert change.before == (book.rules["a"],)
    assert change.destinations == {"reviews", "ratings"}
    assert {name: [rule.id for rule in found] for name, found in after.by_destination.items()} == {
        "reviews": ["b"],
        "ratings": ["a"],
    }
    assert after.revision == 2


def test_replace_needs_ids_that_are_known() -> None:
    book = made(route("a"))
    with pytest.raises(RuleNotFound, match="x, y"):
        rulebook.replace(book, [route("y"), route("a"), route("x")], write())
    with pytest.raises(InvalidRule, match=r"\$\.rules\[1\]\.id: is missing"):
        rulebook.replace(book, [route("a"), route("")], write())


def test_remove_by_what_was_selected() -> None:
    book = made(route("a", tags=("x", "y")), route("b", tags=("x",)), route("c", "ratings", tags=("x", "y")))
    change = rulebook.remove(book, Selection(tags=("x", "y"), destinations=("reviews",)), write())
    assert [rule.id for rule in change.before] == ["a"]
    assert ids(book_module.apply(book, change)) == ["b", "c"]
    assert book_module.apply(book, rulebook.remove(book, Selection(), write())).rules == {}


def test_remove_nothing_is_a_revision_and_an_unknown_id_is_none() -> None:
    book = made(route("a"))
    change = rulebook.remove(book, Selection(tags=("none",)), write())
    assert book_module.apply(book, change) == msgspec.structs.replace(book, revision=2)
    with pytest.raises(RuleNotFound):
        rulebook.remove(book, Selection(ids=("a", "x")), write())


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), ["a", "b", "c"]),
        (Selection(ids=("c", "a", "a")), ["a", "c"]),
        (Selection(tags=("x",)), ["a", "b"]),
        (Selection(tags=("x", "y")), ["a"]),
        (Selection(tags=("",)), []),
        (Selection(destinations=("reviews", "ratings")), ["a", "b", "c"]),
        (Selection(destinations=("ratings",)), ["c"]),
        (Selection(ids=("a",), destinations=("ratings",)), []),
        (Selection(kind="action"), ["c"]),
        (Selection(kind="route"), ["a", "b"]),
    ],
)
def test_select(selection: Selection, found: list[str]) -> None:
    book = made(route("a", tags=("x", "y", "y")), route("b", tags=("x",)), fault("c", "ratings"))
    assert ids(book, selection) == found


def test_replace_for_destination() -> None:
    book = made(route("a"), route("b"), route("other", "ratings"), fault("f", "reviews"))
    change = rulebook.replace_for(
        book, "route", "reviews", [route("", version="v2"), route("b")], write(NOON + 9)
    )
    after = book_module.apply(book, change)
    assert ids(after) == ["b", "other", "f", "new-0"]
    assert after.rules["b"].created == book.rules["b"].created
    assert [rule.id for rule in change.after] == ["new-0", "b"]
    emptied = book_module.apply(after, rulebook.replace_for(after, "action", "reviews", [], write()))
    assert ids(emptied) == ["b", "other", "new-0"]


@pytest.mark.parametrize("identity", ["other", "f"])
def test_replace_for_destination_refuses_ids_of_others(identity: str) -> None:
    book = made(route("a"), route("other", "ratings"), fault("f", "reviews"))
    with pytest.raises(RuleElsewhere, match=identity):
        rulebook.replace_for(book, "route", "reviews", [route(identity)], write())


def test_replace_for_destination_refuses_other_rules() -> None:
    with pytest.raises(InvalidRule) as caught:
        rulebook.replace_for(
            made(), "route", "reviews", [route(), fault("", "reviews"), route("", "ratings")], write()
        )
    assert [problem.path for problem in caught.value.problems] == ["$.rules[1]", "$.rules[2].destination"]


def test_faults_end_by_themselves_unless_told_otherwise() -> None:
    book = made(
        fault("default"),
        fault("short", ttl=2.5),
        fault("ever", ttl=0.0),
        fault("dated", expires="2040-01-01T00:00:00Z"),
        route("route"),
        route("route-ttl", ttl=9.0),
        route("route-ever", ttl=0.0),
    )
    assert {rule.id: (rule.expires, rule.ttl) for rule in book.rules.values()} == {
        "default": (rfc3339(NOON + 3600), None),
        "short": (rfc3339(NOON + 2.5), None),
        "ever": ("", 0.0),
        "dated": ("2040-01-01T00:00:00Z", None),
        "route": ("", None),
        "route-ttl": (rfc3339(NOON + 9), None),
        "route-ever": ("", None),
    }
    assert book.next_due == NOON + 2.5


def test_put_with_ttl_starts_it_again_and_put_as_read_does_not() -> None:
    book = made(fault("a", ttl=60.0), fault("ever", ttl=0.0))
    again = rulebook.replace(book, [fault("a", ttl=60.0)], write(NOON + 30))
    assert again.after[0].expires == rfc3339(NOON + 90)
    as_read = rulebook.replace(book, [book.rules["a"], book.rules["ever"]], write(NOON + 30))
    assert as_read.after == (book.rules["a"], book.rules["ever"])


def test_an_end_that_has_passed_is_refused() -> None:
    with pytest.raises(InvalidRule, match=r"\$\.rules\[1\]\.expires: .* has passed"):
        rulebook.create(Rulebook(), [route(), route(expires=rfc3339(NOON))], write())


def test_lapse_removes_what_is_over_in_one_revision() -> None:
    book = made(fault("a", ttl=1.0), fault("b", ttl=2.0), fault("c", ttl=3.0), route("d"))
    assert rulebook.lapse(book, write(NOON + 0.999)) is None
    change = rulebook.lapse(book, write(NOON + 2))
    assert change is not None
    assert (change.cause, [rule.id for rule in change.before]) == ("lapse", ["a", "b"])
    after = book_module.apply(book, change)
    assert (ids(after), after.next_due) == (["c", "d"], NOON + 3)


def test_a_tenant_has_a_bound() -> None:
    book = book_module.book_of([route(str(i), created=rfc3339(i)) for i in range(KEPT_LIMIT)], 5, 0)
    with pytest.raises(TooManyRules, match=str(KEPT_LIMIT)):
        rulebook.create(book, [route()], write())
    assert rulebook.replace(book, [route("0")], write()).revision == 6


def test_destinations_that_are_left_alone_keep_their_tuples() -> None:
    book = made(route("a"), route("b", "ratings"))
    after = book_module.apply(book, rulebook.create(book, [route("c")], write()))
    assert after.by_destination["ratings"] is book.by_destination["ratings"]
    assert after.by_destination["reviews"] is not book.by_destination["reviews"]


names = st.sampled_from([f"rule-{i}" for i in range(5)])
some_rules = st.lists(
    st.builds(
        lambda identity, destination, is_fault, ttl, priority: (fault if is_fault else route)(
            identity, destination, ttl=ttl, priority=priority
        ),
        names | st.just(""),
        st.sampled_from(["a", "b"]),
        st.booleans(),
        st.sampled_from([None, 0.0, 5.0]),
        st.integers(0, 1),
    ),
    max_size=3,
    unique_by=lambda rule: rule.id or object(),
)
operations: st.SearchStrategy[tuple[str, list[Any]]] = st.one_of(
    st.tuples(st.just("create"), some_rules),
    st.tuples(st.just("replace"), some_rules),
    st.tuples(st.just("remove"), st.lists(names, max_size=2)),
    st.tuples(st.just("routes"), some_rules),
    st.tuples(st.just("lapse"), st.just([])),
)


@given(st.lists(operations, max_size=12))
def test_the_log_of_changes_is_the_whole_truth(script: list[tuple[str, list[object]]]) -> None:
    """Folding the changes gives the rules, each change can be undone, and every index is right."""
    book, now, log = Rulebook(), NOON, []
    for number, (name, content) in enumerate(script):
        now += 2
        new = write(now)
        new = rulebook.Write(now, lambda number=number, new=new: f"{number}-{new.new_id()}", 3600.0)  # type: ignore[misc]
        try:
            change = operate(book, name, content, new)
        except A8Error:
            continue
        if change is None:
            continue
        after = book_module.apply(book, change)
        assert (
            book_module.apply(after, Change(0, "", "remove", change.after, change.before)).rules == book.rules
        )
        log.append(change)
        book = after
    folded = Rulebook()
    for change in log:
        folded = book_module.apply(folded, change)
    assert folded == book
    assert book_module.book_of(book.rules.values(), book.revision, book.newest, book.written) == book
    assert len({rule.created for rule in book.rules.values()}) == len(book.rules)
    assert book.revision == len(log)


def operate(book: Rulebook, name: str, content: list, new: rulebook.Write) -> Change | None:  # type: ignore[type-arg]
    if name == "create":
        return rulebook.create(book, content, new)
    if name == "replace":
        return rulebook.replace(book, content, new)
    if name == "remove":
        return rulebook.remove(book, Selection(ids=tuple(content)), new)
    if name == "routes":
        return rulebook.replace_for(book, "route", "a", content, new)
    return rulebook.lapse(book, new)
