"""Rules and revisions as objects of Kubernetes, and what they add up to."""

import re
from collections.abc import Callable

import msgspec
import pytest

from amalgam8.catalogs.kubernetes.objects import decode
from amalgam8.controller import kubernetes_objects as objects
from amalgam8.controller import rulebook
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.kubernetes_objects import Revision, RevisionObject, RuleObject
from amalgam8.controller.rulebook import Selection
from tests.controller.rules import NOON, route, write

KUBERNETES_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
IDS = ["a", "reviews-v1", "Reviews", "a b", "ü", "a..b", "x" * 300, "a8-x", "-a", "a.", "", "a/b"]


def test_names_are_names_and_no_two_are_the_same() -> None:
    names = [objects.rule_name(tenant, name) for tenant in ("default", "shop", "ü") for name in IDS]
    assert all(re.fullmatch(KUBERNETES_NAME, name) and len(name) <= 253 for name in names), names
    assert len(set(names)) == len(names)
    assert objects.rule_name("default", "reviews-v1") == "reviews-v1"
    tenants = ["default", "shop", "Shop", "a8-x", "x" * 100, "ü", "a.b"]
    keys = [objects.key_of(tenant) for tenant in tenants]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z0-9][-a-z0-9]{0,61}[a-z0-9]", key) for key in keys)
    revisions = {objects.revision_name(tenant, number) for tenant in tenants for number in (1, 11, 111)}
    assert len(revisions) == 3 * len(tenants)


def shown(book: Rulebook, *ids: str) -> list[RuleObject]:
    """The objects of these rules, as they come back."""
    return [
        decode(
            msgspec.json.encode(objects.rule_object("t", book.rules[name], book.written[name])), RuleObject
        )
        for name in ids
    ]


def history() -> tuple[list[Rulebook], list[Revision]]:
    """Books 0 to 4: two rules, one changed, one removed, the removed one again."""
    book, books, log = Rulebook(), [Rulebook()], list[Revision]()
    steps: list[Callable[[Rulebook], Change]] = [
        lambda book: rulebook.create(book, [route("a"), route("b")], write(NOON, confirm_within=60)),
        lambda book: rulebook.replace(book, [route("a", version="v2")], write(NOON + 1)),
        lambda book: rulebook.remove(book, Selection(ids=("b",)), write(NOON + 2)),
        lambda book: rulebook.create(book, [route("b", version="v3")], write(NOON + 3)),
    ]
    for make in steps:
        change = make(book)
        book = apply(book, change)
        books.append(book)
        log.append(Revision("t", change.revision, change))
    return books, log


def test_revisions_come_back_whole() -> None:
    _, log = history()
    for one in log:
        found = decode(msgspec.json.encode(objects.revision_object(one)), RevisionObject)
        assert found.spec == one
        assert found.metadata.name == f"t.{one.revision}"


@pytest.mark.parametrize("lag", [0, 1, 2, 3])
@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_objects_that_lag_are_brought_up_by_the_revisions_that_are_kept(lag: int, kept: int) -> None:
    books, log = history()
    if lag > kept:
        return  # a revision goes only once no object lags behind it
    then = books[4 - lag]
    found = objects.rebuild(log[4 - kept :], shown(then, *then.rules))
    assert found.rules == books[4].rules
    assert (found.revision, found.written) == (4, books[4].written)


def test_the_last_hole_begins_the_log() -> None:
    _, log = history()
    assert [one.revision for one in objects.by_tenant([log[3], log[0], log[2]])["t"]] == [3, 4]
    assert objects.by_tenant([]) == {}


def test_an_object_of_the_future_or_of_an_unfinished_import_does_not_count() -> None:
    books, log = history()
    found = objects.rebuild(log[:1], shown(books[4], "a"))
    assert found.rules == books[1].rules
    document = objects.rule_object("t", route("c"), books[1].written["a"], imported=9)
    begun = decode(msgspec.json.encode(document), RuleObject)
    assert objects.rebuild(log, [begun]).rules == books[4].rules
    assert objects.leftovers({"c": begun}, {"t": 4}) == ["c"]
    assert objects.leftovers({"c": begun}, {"t": 9}) == []


def test_what_waits_to_be_confirmed_is_worked_out() -> None:
    books, log = history()
    assert objects.rebuild(log[:1], []).unconfirmed == books[1].unconfirmed
    begun = Revision("t", 1, None, imported=True, unconfirmed=books[1].unconfirmed)
    assert objects.rebuild([begun], []).unconfirmed == books[1].unconfirmed
