"""An explanation in words: what happens to a call, and what became of each rule. For people.

Facets are short texts under a heading, so that two explanations can stand side by side. Refuses to know
where an explanation came from.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from amalgam8.cli import show
from amalgam8.model.errors import BadAnswer
from amalgam8.routing.explain import Explanation, Refused, Version
from amalgam8.routing.verdict import Effect, Verdict

INSTANCES_SHOWN = 3

Facets = Mapping[str, Sequence[str]]

STATES = {"acts": "green", "hidden": "yellow", "unreached": "yellow", "missed": "yellow", "aside": "grey"}


def read(document: Mapping[str, Any]) -> Explanation:
    """The controller's answer as an Explanation; members that only newer ones have do not matter.

    Raises:
        BadAnswer: it is something else.
    """
    try:
        return msgspec.convert(document, Explanation)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"the controller answered an explanation that cannot be read: {error}") from None


def facets(found: Explanation) -> Facets:
    """What happens, as lines under headings; headings without lines are left out."""
    every: dict[str, list[str]] = {
        "Service": [f"{found.service} (by {found.addressed})"],
        "Path": [found.path] if found.path else [],
        "Answer": [refusal(found.refusal)] if found.refusal else [],
        "Limits": [
            f"{limit.requests:g} in {limit.per:g} s"
            + (f", and {limit.burst:g} at once" if limit.burst else "")
            + (f", for each {limit.header}" if limit.header else "")
            for limit in found.limits
        ],
        "Headers": [
            *(f"set {name}: {value}" for name, value in found.set_headers.items()),
            *(f"remove {name}" for name in found.remove_headers),
        ],
        "Affinity": [_affinity(found)] if found.affinity else [],
        "Versions": [version(each) for each in found.versions],
        "Copies": [
            f"{percent(copy.probability)} to {','.join(copy.tags) or 'any version'}{_count(copy.instances)}"
            for copy in found.mirrors
        ],
        "Rules that act": sorted(acting(found)),
    }
    return {name: lines for name, lines in every.items() if lines}


def acting(found: Explanation) -> set[str]:
    """The ids of the rules that do something to the call."""
    return {rule.id for rule in found.rules for effect in rule.effects if effect.state == "acts"}


def version(found: Version) -> str:
    """One version in one line: ``90 % reviews:v1, 2 instances, delay 7 s``."""
    name = f"{found.service}:{','.join(found.tags)}" if found.tags else f"{found.service} (any version)"
    parts = [f"{percent(found.probability)} {name}{_count(found.instances)}"]
    parts += [f"delay {one.seconds:g} s{_dice(one.probability)}" for one in found.delays]
    parts += [
        f"{'no answer' if one.status == -1 else f'abort {one.status}'}{_dice(one.probability)}"
        for one in found.aborts
    ]
    if found.refusal:
        parts.append(refusal(found.refusal))
    if found.timeout:
        parts.append(f"{found.timeout:g} s at most")
    if found.retries is not None:
        parts.append(f"retries {found.retries}")
    parts += [f"recorded {one.key}={one.value}" for one in found.traces]
    return ", ".join(parts)


def refusal(found: Refused) -> str:
    return f"{found.status} {found.kind}" + (f", by {found.rule}" if found.rule else "")


def percent(share: float) -> str:
    """A share of 1, such as ``33.33 %``."""
    return f"{round(share * 100, 4):g} %"


def side_by_side(*found: Facets) -> Iterator[tuple[str, ...]]:
    """Rows of a table: a heading, and each one's line; ``*`` where they differ."""
    names = dict.fromkeys(name for facets_ in found for name in facets_)
    for name in (each for each in _ORDER if each in names):
        lists = [each.get(name, ()) for each in found]
        differ = any(list(each) != list(lists[0]) for each in lists)
        for i, lines in enumerate(zip_longest(*lists, fillvalue="")):
            yield ((("* " if differ else "") + name if i == 0 else ""), *lines)


def verdict_rows(rules: Sequence[Verdict]) -> Iterator[tuple[str, ...]]:
    """Rows of a table: rule, priority, whether it matches, and what it does or why it does not."""
    for rule in rules:
        words = [_effect(effect) for effect in rule.effects] + [reason.text for reason in rule.reasons]
        matches = show.coloured("yes", "green") if rule.matches else show.coloured("no", "grey")
        for i, line in enumerate(words or [""]):
            head = (rule.id, rule.destination, str(rule.priority), matches) if i == 0 else ("", "", "", "")
            yield (*head, line)


VERDICT_COLUMNS = ("Rule", "Destination", "Priority", "Matches", "What it does, or why not")
_ORDER = (
    *("Service", "Path", "Answer", "Limits", "Headers", "Affinity"),
    *("Versions", "Copies", "Rules that act"),
)


def _effect(effect: Effect) -> str:
    return show.coloured(f"{effect.kind}: {effect.text}", STATES[effect.state])


def _affinity(found: Explanation) -> str:
    affinity = found.affinity
    if affinity is None:
        return ""
    what = f"the header {affinity.header}" if affinity.header else f"the cookie {affinity.cookie}"
    return f"a user stays on one version, by {what}"


def _count(instances: Sequence[str] | None) -> str:
    if instances is None:
        return ""
    return f", {len(instances)} instance{'s' if len(instances) != 1 else ''}"


def _dice(probability: float) -> str:
    return f" ({percent(probability)})" if probability < 1 else ""
