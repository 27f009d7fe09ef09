"""The nouns of the history: what applying a change leaves, and what waits to be confirmed."""

from amalgam8.controller import rulebook, undo
from amalgam8.controller.book import Change, Rulebook, Written, apply, book_of
from amalgam8.controller.rulebook import Selection
from amalgam8.model.rule import rfc3339
from tests.controller.rules import NOON, fault, route, write


def waiting_for(book: Rulebook) -> list[tuple[int, list[str], list[str]]]:
    return [
        (one.revision, sorted(rule.id for rule in one.before), sorted(one.after)) for one in book.unconfirmed
    ]


def test_each_rule_knows_when_it_was_last_written() -> None:
    book = apply(Rulebook(), rulebook.create(Rulebook(), [route("a"), route("b")], write()))
    book = apply(book, rulebook.replace(book, [route("a", version="v2")], write(NOON + 1)))
    assert book.written == {"a": Written(2, rfc3339(NOON + 1)), "b": Written(1, rfc3339(NOON))}
    book = apply(book, rulebook.remove(book, Selection(ids=("a",)), write(NOON + 2)))
    assert list(book.written) == ["b"]


def test_a_book_of_stored_rules_knows_what_it_is_told() -> None:
    change = rulebook.create(Rulebook(), [route("a")], write(confirm_within=30))
    book = apply(Rulebook(), change)
    again = book_of(book.rules.values(), 1, book.newest, book.written, reversed(book.unconfirmed))
    assert again == book
    assert book_of(change.after, 1, book.newest).written == {"a": Written()}


def test_who_touches_a_rule_takes_it_out_of_what_waits() -> None:
    book = apply(Rulebook(), rulebook.create(Rulebook(), [route("a"), route("b"), route("c")], write()))
    book = apply(
        book, rulebook.replace(book, [route("a", version="v2"), route("b")], write(confirm_within=30))
    )
    assert waiting_for(book) == [(2, ["a", "b"], ["a", "b"])]
    book = apply(book, rulebook.replace(book, [route("b", version="v3")], write()))
    assert waiting_for(book) == [(2, ["a"], ["a"])]
    book = apply(book, rulebook.remove(book, Selection(ids=("a", "c")), write()))
    assert waiting_for(book) == [(2, [], [])]
    book = apply(book, undo.confirm(book, 2, write()))
    assert waiting_for(book) == []


def test_a_lapse_is_nobody() -> None:
    book = apply(Rulebook(), rulebook.create(Rulebook(), [fault("f", ttl=5.0)], write(confirm_within=30)))
    lapse = rulebook.lapse(book, write(NOON + 6))
    assert lapse is not None
    assert waiting_for(apply(book, lapse)) == [(1, [], ["f"])]


def test_what_is_due_next() -> None:
    assert Rulebook().next_due is None
    book = apply(Rulebook(), rulebook.create(Rulebook(), [fault("f", ttl=60.0)], write()))
    assert book.next_due == NOON + 60
    book = apply(book, rulebook.create(book, [route("a")], write(confirm_within=30)))
    assert book.next_due == NOON + 30


def test_a_change_names_what_it_touches() -> None:
    change = Change(
        2, "", "replace", (route("a", "reviews"),), (route("a", "ratings"), route("b", "details"))
    )
    assert change.ids == {"a", "b"}
    assert change.destinations == {"reviews", "ratings", "details"}
