"""What is to be done about one RoutingRule: nothing, write it, remove it, judge it, or take it over. Pure.

A controller writes the rules of its mirror into objects, and takes what people write into objects as a
change like any other. Which of the two a difference means is told by the revision that the object carries:
one that is behind is to be written anew, one that is ahead belongs to a change that is still on its way.
"""

from typing import Literal

import msgspec

from amalgam8.controller.book import Written
from amalgam8.controller.kubernetes_objects import ID, RuleObject
from amalgam8.model.errors import InvalidInput
from amalgam8.model.rule import Rule
from amalgam8.model.rule_reader import read_list

What = Literal["nothing", "write", "remove", "valid", "invalid", "edit", "removed"]
"""``edit`` and ``removed``: somebody else changed or removed the object, and that is to become a change."""

MESSAGE_LIMIT = 1000


class Step(msgspec.Struct, frozen=True):
    """What to do about an object; ``rule`` of an edit, ``message`` of an invalid one."""

    what: What
    rule: Rule | None = None
    message: str = ""


NOTHING = Step("nothing")


def step(
    rule: Rule | None, written: Written, one: RuleObject | None, head: int, *, seen: int | None = None
) -> Step:
    """What to do about a rule of the mirror, which is at ``head``, and the object of it.

    ``seen``: the revision that the object carried when it was last there.
    """
    if one is None:
        if rule is None:
            return NOTHING
        return Step("removed") if seen is not None and seen >= written.revision else Step("write")
    at = one.revision
    if rule is None:
        if at is None:
            return _edit(one)
        return Step("remove") if at <= head else NOTHING
    if at is None:
        found = _edit(one, rule)
        return Step("write") if found.what == "valid" else found  # it is ours from now on
    if at == written.revision:
        return _compared(rule, one)
    return Step("write") if at < written.revision else NOTHING


def _compared(rule: Rule, one: RuleObject) -> Step:
    if one.says() == msgspec.json.decode(msgspec.json.encode(rule)):
        return NOTHING if one.judged and one.status and one.status.state == "valid" else Step("valid")
    return _edit(one, rule)


def _edit(one: RuleObject, known: Rule | None = None) -> Step:
    """What somebody wrote into an object, unless it was judged already."""
    if one.judged:
        return NOTHING
    try:
        spec = one.says()
        if not isinstance(spec, dict):
            return Step("invalid", message="spec: expected a rule")
        identity = one.note(ID) or str(spec.get("id") or one.metadata.name)
        (rule,) = read_list({"rules": [{**spec, "id": identity}]})
    except InvalidInput as error:
        return Step("invalid", message=str(error).replace("$.rules[0]", "spec")[:MESSAGE_LIMIT])
    if known is not None:
        rule = msgspec.structs.replace(rule, created=known.created, author=known.author)
        if rule == known:
            return Step("valid")
    return Step("edit", rule)
