"""What a rollout writes to the rules: its share, the new default route at its end, or nothing any more.

Pure operations on a Rulebook, each of which can be carried out twice. The share stands in a rule of its own,
one priority above the default route, with an end that is put off again and again. Whose hand a rule shows is
told by its author. Refuses to write where somebody else changed what it builds on.
"""

from typing import Literal

import msgspec

from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.rollout import Order, Rollout
from amalgam8.controller.rulebook import Write, changed, finished
from amalgam8.model.errors import NoDefaultVersion, RuleExists
from amalgam8.model.rule import Backend, Match, Route, Rule, timestamp

HOLD = 120.0
"""Seconds that a share lasts if the controller dies; put off when half of that is left."""

PERCENT = 100
PRIORITY_LIMIT = 2**31 - 1

Place = Literal["there", "other", "absent", "foreign"]
"""The rule of a rollout: as it should be, ours and of another step, gone, or somebody else's by now."""


def default_route(book: Rulebook, order: Order) -> Rule:
    """The route rule that a rollout of this order builds on.

    Raises:
        NoDefaultVersion: there is none, or not one of a single version, or it is the new one already.
    """
    service = order.service
    routes = [rule for rule in book.by_destination.get(service, ()) if rule.route is not None]
    rule = next((rule for rule in routes if rule.match in (None, Match())), None)
    if rule is None or rule.route is None:
        raise NoDefaultVersion(f"{service} has no default version; give it one, as with a8ctl route-set")
    backends = rule.route.backends
    if len(backends) != 1 or backends[0].weight not in (0, 1):
        raise NoDefaultVersion(f"the calls of {service} are split already, by the rule {rule.id}")
    if set(order.version) <= set(backends[0].tags):
        raise NoDefaultVersion(f"{','.join(order.version)} is the default version of {service} already")
    if rule.priority >= PRIORITY_LIMIT:
        raise NoDefaultVersion(f"nothing can stand above the priority of the default route {rule.id}")
    beside = [one.id for one in routes[: routes.index(rule)] if one.priority == rule.priority]
    if beside:
        raise NoDefaultVersion(
            f"the rule {beside[0]} has the priority of the default route {rule.id}, so that nothing can stand"
            " between them; give it a higher one"
        )
    return rule


def hand(rollout: Rollout) -> str:
    """The author of what it writes."""
    return f"rollout {rollout.id}"


def undisturbed(book: Rulebook, rollout: Rollout) -> bool:
    """Whether the default route is what it was at the start."""
    return book.rules.get(rollout.base.id) == rollout.base


def is_finished(book: Rulebook, rollout: Rollout) -> bool:
    """Whether the new version is the default by this rollout's own hand."""
    rule = book.rules.get(rollout.base.id)
    return rule is not None and rule.author == hand(rollout) and rollout.rule not in book.rules


def place(book: Rulebook, rollout: Rollout) -> Place:
    """What has become of its rule."""
    rule = book.rules.get(rollout.rule)
    if rule is None:
        return "absent"
    if rule.author != hand(rollout):
        return "foreign"
    return "there" if rule.route == _shared(rollout).route else "other"


def runs_out(book: Rulebook, rollout: Rollout, now: float) -> bool:
    """Whether it is time to put off the end of its rule."""
    rule = book.rules.get(rollout.rule)
    return rule is not None and timestamp(rule.expires) - now < HOLD / 2


def share(rollout: Rollout, book: Rulebook, write: Write) -> Change | None:
    """Give the new version the share of its step, for HOLD seconds; None: somebody else is at it."""
    where = place(book, rollout)
    if where == "foreign" or not undisturbed(book, rollout):
        return None
    before = (book.rules[rollout.rule],) if where != "absent" else ()
    told = _told(rollout, write, f"{rollout.share:g} % for {','.join(rollout.order.version)}")
    return changed(book, "rollout", before, finished(book, [_shared(rollout)], told), told)


def finish(rollout: Rollout, book: Rulebook, write: Write) -> Change | None:
    """Make the new version the default; None: it is, or somebody else is at it."""
    if not undisturbed(book, rollout) or place(book, rollout) == "foreign":
        return None
    told = _told(rollout, write, f"{','.join(rollout.order.version)} is the default")
    rule = msgspec.structs.replace(rollout.base, route=_route(rollout, PERCENT))
    before = [rollout.base, *([book.rules[rollout.rule]] if rollout.rule in book.rules else [])]
    return changed(book, "rollout", tuple(before), finished(book, [rule], told), told)


def withdraw(rollout: Rollout, book: Rulebook, write: Write) -> Change | None:
    """Take the share back; None: there is none, or not ours any more."""
    if place(book, rollout) in ("absent", "foreign"):
        return None
    told = _told(rollout, write, rollout.reason)
    return changed(book, "rollout", (book.rules[rollout.rule],), (), told)


def check_free(book: Rulebook, rollout: Rollout) -> None:
    """Refuse a rollout whose rule's id is taken; raises RuleExists."""
    if rollout.rule in book.rules:
        raise RuleExists(f"there is a rule {rollout.rule} already")


def _shared(rollout: Rollout) -> Rule:
    base = rollout.base
    return Rule(
        rollout.rule,
        base.priority + 1,
        base.destination,
        base.tags,
        route=_route(rollout, rollout.share),
        ttl=HOLD,
        description=f"The rollout {rollout.id}; see a8ctl rollout-show {rollout.id}",
    )


def _route(rollout: Rollout, percent: float) -> Route:
    """The default route with the new version in it; all of it at 100 percent."""
    assert rollout.base.route is not None  # noqa: S101 - ``default_route`` saw to it
    old = rollout.base.route.backends[0]
    new = msgspec.structs.replace(old, tags=rollout.order.version, weight=0)
    parts: tuple[Backend, ...] = (new,)
    if percent < PERCENT:
        weight = round(percent / PERCENT, 4)
        parts = (msgspec.structs.replace(new, weight=weight), msgspec.structs.replace(old, weight=0))
    return msgspec.structs.replace(rollout.base.route, backends=parts)


def _told(rollout: Rollout, write: Write, comment: str) -> Write:
    return msgspec.structs.replace(
        write, author=hand(rollout), comment=comment[:1000], confirm_within=None, request_id=rollout.id
    )
