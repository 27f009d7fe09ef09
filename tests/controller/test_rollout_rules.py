"""What a rollout writes: its own rule above the default route, and what it refuses to build on."""

import msgspec
import pytest

from amalgam8.controller import rollout_rules as rules
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.rollout import Order, Rollout
from amalgam8.controller.rulebook import create, replace
from amalgam8.model.errors import NoDefaultVersion, RuleExists
from amalgam8.model.rule import Affinity, Backend, Match, Route, Rule, Source, timestamp
from tests.controller.rules import NOON, route, write

SPLIT = (Backend(tags=("a",), weight=0.1), Backend(tags=("b",)))
ORDER = Order("reviews", ("v2",), (0.01, 33.33, 100.0))


def book(*more: Rule) -> Rulebook:
    base = route("base", priority=1, tags=("t",))
    assert base.route is not None
    steady = msgspec.structs.replace(base.route, affinity=Affinity(header="x-user"), http_req_timeout=3.0)
    base = msgspec.structs.replace(base, route=steady)
    return apply(Rulebook(), create(Rulebook(), [base, *more], write()))


def begun(found: Rulebook, step: int = 1) -> Rollout:
    base = rules.default_route(found, ORDER)
    return Rollout("r", 1, ORDER, base, "running", "2030", step=step)


def carried(found: Rulebook, change: Change | None) -> Rulebook:
    assert change is not None
    assert change.cause == "rollout"
    assert change.author == "rollout r"
    return apply(found, change)


def test_its_share_stands_above_the_default_route_and_below_the_others() -> None:
    found = book(route("jason", match=Match(headers={"cookie": "jason"}), priority=2))
    rollout = begun(found)
    found = carried(found, rules.share(rollout, found, write()))
    listed = found.by_destination["reviews"]
    assert [rule.id for rule in listed] == ["jason", "rollout-r", "base"]
    share = listed[1]
    assert share.route is not None
    assert share.route.backends == (Backend(tags=("v2",), weight=0.3333), Backend(tags=("v1",)))
    assert (share.route.affinity, share.route.http_req_timeout) == (Affinity(header="x-user"), 3.0)
    assert timestamp(share.expires) == NOON + rules.HOLD
    assert rules.place(found, rollout) == "there"
    assert rules.place(found, msgspec.structs.replace(rollout, step=2)) == "other"
    assert not rules.runs_out(found, rollout, NOON + 59)
    assert rules.runs_out(found, rollout, NOON + 61)


def test_all_of_it_is_no_split() -> None:
    found = book()
    found = carried(found, rules.share(begun(found, step=2), found, write()))
    share = found.rules["rollout-r"].route
    assert share is not None
    assert share.backends == (Backend(tags=("v2",)),)


def test_the_end_is_one_revision_and_keeps_what_the_route_was() -> None:
    found = book()
    rollout = begun(found, step=2)
    found = carried(found, rules.share(rollout, found, write()))
    assert not rules.is_finished(found, rollout)
    found = carried(found, rules.finish(rollout, found, write()))
    assert list(found.rules) == ["base"]
    rule = found.rules["base"]
    assert rule.route == Route((Backend(tags=("v2",)),), http_req_timeout=3.0, affinity=Affinity("x-user"))
    assert (rule.tags, rule.created, rule.expires) == (("t",), rollout.base.created, "")
    assert rules.is_finished(found, rollout)
    assert rules.finish(rollout, found, write()) is None


def test_taking_it_back_can_be_repeated() -> None:
    found = book()
    rollout = begun(found)
    assert rules.withdraw(rollout, found, write()) is None
    found = carried(found, rules.share(rollout, found, write()))
    found = carried(found, rules.withdraw(rollout, found, write()))
    assert list(found.rules) == ["base"]
    assert rules.withdraw(rollout, found, write()) is None


def test_what_somebody_else_changed_stays() -> None:
    found = book()
    rollout = begun(found)
    shared = carried(found, rules.share(rollout, found, write()))
    meddled = apply(shared, replace(shared, [route("rollout-r", version="v9")], write(author="bob")))
    assert rules.place(meddled, rollout) == "foreign"
    for operation in (rules.share, rules.finish, rules.withdraw):
        assert operation(rollout, meddled, write()) is None
    moved = apply(shared, replace(shared, [route("base", version="v7")], write(author="bob")))
    assert not rules.undisturbed(moved, rollout)
    assert rules.share(rollout, moved, write()) is None
    assert rules.finish(rollout, moved, write()) is None
    assert rules.withdraw(rollout, moved, write()) is not None


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ((route("r", "other"),), "reviews has no default version"),
        ((route("r", match=Match(Source("web"))),), "reviews has no default version"),
        ((route("r", version="v2"),), "v2 is the default version of reviews already"),
        (
            (
                Rule(
                    "r",
                    destination="reviews",
                    route=Route((Backend(tags=("a",), weight=0.1), Backend(tags=("b",)))),
                ),
            ),
            "the calls of reviews are split already, by the rule r",
        ),
        (
            (route("first", match=Match(Source("web"))), route("r")),
            "the rule first has the priority of the default route r",
        ),
        ((route("r", priority=2**31 - 1),), "nothing can stand above"),
    ],
)
def test_what_cannot_be_built_on(made: tuple[Rule, ...], text: str) -> None:
    found = apply(Rulebook(), create(Rulebook(), made, write()))
    with pytest.raises(NoDefaultVersion, match=text):
        rules.default_route(found, ORDER)


def test_a_match_that_says_nothing_is_a_default() -> None:
    found = apply(Rulebook(), create(Rulebook(), [route("r", match=Match())], write()))
    assert rules.default_route(found, ORDER).id == "r"


def test_an_id_that_is_taken() -> None:
    found = book(route("rollout-r", "other"))
    with pytest.raises(RuleExists):
        rules.check_free(found, begun(found))
