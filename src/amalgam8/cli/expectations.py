"""What a rule test expects of a call, held against an explanation.

What the test does not mention is not looked at; what it mentions must be all there is: a version that nobody
expected is a difference. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from amalgam8.cli.explained import acting, percent
from amalgam8.routing.explain import Explanation

NEAR = 1e-6

Share = tuple[float, float]
"""Lowest and highest."""


class Fault(msgspec.Struct, frozen=True):
    """``value``: seconds of a delay, or status of an abort; in each version whose tags include ``tags``."""

    kind: str
    value: float
    probability: Share
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" in {','.join(self.tags)}" if self.tags else ""
        return f"{self.kind} {self.value:g} ({shown(self.probability)}){where}"


class Expect(msgspec.Struct, frozen=True):
    """What must come of a call; None: whatever."""

    versions: dict[tuple[str, tuple[str, ...]], Share] | None = None
    faults: tuple[Fault, ...] | None = None
    refusal: tuple[str, str] | None = None
    rules: tuple[str, ...] | None = None
    service: str | None = None
    path: str | None = None
    headers: dict[str, str | None] | None = None
    limits: tuple[str, ...] | None = None


class Differs(msgspec.Struct, frozen=True):
    """One thing that is not as expected, both sides in words."""

    what: str
    expected: tuple[str, ...]
    got: tuple[str, ...]


def differences(expect: Expect, found: Explanation) -> Iterator[Differs]:
    """What is not as expected."""
    if expect.refusal is not None:
        yield from _refusal(expect.refusal, found)
    if expect.versions is not None:
        yield from _versions(expect.versions, found)
    if expect.faults is not None:
        yield from _faults(expect.faults, found)
    pairs: list[tuple[str, Sequence[str] | None, Sequence[str]]] = [
        ("rules", None if expect.rules is None else sorted(expect.rules), sorted(acting(found))),
        ("service", None if expect.service is None else [expect.service], [found.service]),
        ("path", None if expect.path is None else [expect.path], [found.path]),
        ("limits", expect.limits, [f"{each.requests:g}/{each.per:g}s" for each in found.limits]),
    ]
    if expect.headers is not None:
        wanted = [
            f"{key}: {'(removed)' if value is None else value}" for key, value in expect.headers.items()
        ]
        got = [f"{key}: {value}" for key, value in found.set_headers.items()]
        got += [f"{key}: (removed)" for key in found.remove_headers]
        pairs.append(("headers", sorted(wanted), sorted(got)))
    for what, wants, has in pairs:
        if wants is not None and list(wants) != list(has):
            yield Differs(what, tuple(wants) or ("none",), tuple(has) or ("none",))


def shown(share: Share) -> str:
    """``25 %`` or ``20 % to 30 %``."""
    low, high = share
    return percent(low) if low == high else f"{percent(low)} to {percent(high)}"


def _refusal(wanted: tuple[str, str], found: Explanation) -> Iterator[Differs]:
    kind, rule = wanted
    refusal = found.refusal
    if refusal is None and found.versions and all(each.refusal for each in found.versions):
        refusal = found.versions[0].refusal
    got = (refusal.kind, refusal.rule) if refusal else ("none", "")
    if got[0] != kind or (rule and got[1] != rule):
        yield Differs("refusal", (_by(kind, rule),), (_by(*got),))


def _by(kind: str, rule: str) -> str:
    return f"{kind} by {rule}" if rule else kind


def _versions(wanted: Mapping[tuple[str, tuple[str, ...]], Share], found: Explanation) -> Iterator[Differs]:
    sums = dict.fromkeys(wanted, 0.0)
    stray = False
    for version in found.versions:
        fits = [key for key in wanted if key[0] in ("", version.service) and set(key[1]) <= set(version.tags)]
        # The one that says most of it: v2 and canary of v2 can both be expected.
        best = max(fits, key=lambda key: (len(key[1]), bool(key[0])), default=None)
        if best is None:
            stray = stray or version.probability > 0
        else:
            sums[best] += version.probability
    if stray or any(not _within(sums[key], share) for key, share in wanted.items()):
        yield Differs(
            "versions",
            tuple(f"{_name(*key)}: {shown(share)}" for key, share in wanted.items()) or ("none",),
            tuple(f"{_name(each.service, each.tags)}: {percent(each.probability)}" for each in found.versions)
            or ("none",),
        )


def _faults(wanted: Sequence[Fault], found: Explanation) -> Iterator[Differs]:
    got: dict[tuple[str, float, float], set[int]] = {}
    for i, version in enumerate(found.versions):
        for delay in version.delays:
            got.setdefault(("delay", delay.seconds, delay.probability), set()).add(i)
        for abort in version.aborts:
            got.setdefault(("abort", abort.status, abort.probability), set()).add(i)
    tags = [set(version.tags) for version in found.versions]
    missing = {fault: {i for i, carried in enumerate(tags) if carried >= set(fault.tags)} for fault in wanted}
    stray = False
    for (kind, value, probability), where in got.items():
        for i in where:
            fits = [
                fault
                for fault in wanted
                if (fault.kind, fault.value) == (kind, value)
                and _within(probability, fault.probability)
                and tags[i] >= set(fault.tags)
            ]
            stray = stray or not fits
            for fault in fits:
                missing[fault].discard(i)
    if stray or any(missing.values()) or (wanted and not tags):
        words = tuple(
            f"{kind} {value:g} ({percent(probability)})"
            f" in {'; '.join(_name('', found.versions[i].tags) for i in sorted(where))}"
            for (kind, value, probability), where in got.items()
        )
        yield Differs("faults", tuple(map(str, wanted)) or ("none",), words or ("none",))


def _within(value: float, share: Share) -> bool:
    return share[0] - NEAR <= value <= share[1] + NEAR


def _name(service: str, tags: Sequence[str]) -> str:
    return f"{service}:{','.join(tags)}" if service and tags else service or ",".join(tags) or "any"
