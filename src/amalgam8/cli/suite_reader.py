"""Reads files of rule tests: who runs what, calls, and what is expected of each.

Calls are written as for ``POST /v1/explain``. Shares are numbers of 1, or ``[low, high]``. The language is
described in ``docs/how-to/test-rules.md``. Refuses a test that expects nothing, and names given twice.
"""

from typing import Any

import msgspec

from amalgam8.cli.expectations import Expect, Fault, Share
from amalgam8.model.caller import Caller
from amalgam8.model.errors import InvalidInput
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.routing.call_reader import MEMBERS, CallReader
from amalgam8.routing.explain import Call
from amalgam8.routing.resolve import Instances

TESTS_LIMIT = 10_000
COUNT_LIMIT = 1000
FINDINGS_SHOWN = 20

KINDS = ("none", "unknown", "denied", "unavailable")
EXPECTED = ("versions", "faults", "refusal", "rules", "service", "path", "headers", "limits")


class RuleTest(msgspec.Struct, frozen=True):
    """One call and what is expected of it; ``document`` is the call as the controller is asked."""

    name: str
    caller: Caller
    call: Call
    expect: Expect
    document: dict[str, Any]


class Suite(msgspec.Struct, frozen=True):
    """The tests of a file. ``instances`` None: the file says nothing of them."""

    tests: tuple[RuleTest, ...]
    instances: Instances | None


def read_suite(document: Any, name: str) -> Suite:
    """Read the value of a tests file.

    Raises:
        InvalidInput: every finding, with its path.
    """
    reader = SuiteReader()
    suite = reader.suite(document)
    if reader.problems:
        found = "; ".join(str(problem) for problem in reader.problems[:FINDINGS_SHOWN])
        raise InvalidInput(f"{name}: {found}")
    return suite


class SuiteReader(CallReader):
    """Reads tests; collects findings as every reader does."""

    def suite(self, item: object) -> Suite:
        members = self.members(item, "$", known=("instances", "tests"))
        listed = members.get("tests")
        if not isinstance(listed, list) or not listed:
            self.say("$.tests", "must be a list of at least one test")
            listed = []
        self.limit("$.tests", len(listed), TESTS_LIMIT, "tests")
        tests = [self.test(each, f"$.tests[{i}]") for i, each in enumerate(listed[:TESTS_LIMIT])]
        seen: set[str] = set()
        for i, test in enumerate(tests):
            if test.name in seen:
                self.say(f"$.tests[{i}].name", f"{test.name} is the name of a test before it")
            seen.add(test.name)
        return Suite(tuple(tests), self.optional(members, "$", "instances", self.instances))

    def test(self, item: object, path: str) -> RuleTest:
        members = self.members(item, path, known=("name", *MEMBERS, "expect"))
        who, call = self.call(members, path)
        expect = Expect()
        if members.get("expect") is None:
            self.say(f"{path}.expect", "is missing: say what must come of the call")
        else:
            expect = self.expect(members["expect"], f"{path}.expect")
        name = (
            self.optional(members, path, "name", self.text)
            or f"{str(who) or 'anybody'} to {call.destination}{call.path}"
        )
        document = {member: members[member] for member in MEMBERS if members.get(member) is not None}
        return RuleTest(name, who, call, expect, document)

    def expect(self, item: object, path: str) -> Expect:
        members = self.members(item, path, known=EXPECTED)
        if isinstance(item, dict) and not item:
            self.say(path, "expects nothing")
        return Expect(
            self.optional(members, path, "versions", self.versions),
            self.optional(members, path, "faults", self.faults),
            self.optional(members, path, "refusal", self.refusal),
            self.optional(members, path, "rules", self.tags),
            self.optional(members, path, "service", self.text),
            self.optional(members, path, "path", self.text),
            self.optional(members, path, "headers", self.changes),
            self.optional(members, path, "limits", self.tags),
        )

    def versions(self, item: object, path: str) -> dict[tuple[str, tuple[str, ...]], Share]:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object of versions and their shares, such as {v1: 0.75, v2: 0.25}")
            return {}
        return {_key(name): self.range(share, f"{path}.{name}") for name, share in item.items()}

    def range(self, item: object, path: str) -> Share:
        """A share, or the lowest and the highest."""
        if isinstance(item, list):
            bounds = [self.share(each, f"{path}[{i}]") for i, each in enumerate(item)]
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                self.say(path, "must be [low, high]")
                return (0, 1)
            return (bounds[0], bounds[1])
        share = self.share(item, path)
        return (share, share)

    def faults(self, item: object, path: str) -> tuple[Fault, ...]:
        if not isinstance(item, list):
            self.wrong_type(path, "a list such as [{delay: 7}, {abort: 503, probability: 0.1}]")
            return ()
        return tuple(self.fault(each, f"{path}[{i}]") for i, each in enumerate(item))

    def fault(self, item: object, path: str) -> Fault:
        members = self.members(item, path, known=("delay", "abort", "probability", "version"))
        delay = self.optional(members, path, "delay", self.number)
        abort = self.optional(members, path, "abort", self.whole)
        if (delay is None) == (abort is None):
            self.say(path, "must give either delay in seconds or abort with a status")
        _, tags = _key(self.optional(members, path, "version", self.text) or "")
        probability = self.optional(members, path, "probability", self.range) or (1, 1)
        return Fault("abort" if delay is None else "delay", abort or delay or 0, probability, tags)

    def refusal(self, item: object, path: str) -> tuple[str, str]:
        read = self.one_of(*KINDS)
        if isinstance(item, str):
            return (read(item, path), "")
        members = self.members(item, path, known=("kind", "rule"))
        kind = self.optional(members, path, "kind", read)
        if not kind:
            self.say(f"{path}.kind", f"must be one of {', '.join(KINDS)}")
        return (kind or "none", self.optional(members, path, "rule", self.text) or "")

    def changes(self, item: object, path: str) -> dict[str, str | None]:
        """Headers that are set, and (null) those that are removed."""
        if not isinstance(item, dict):
            self.wrong_type(path, "an object of header names and values, null for one that is removed")
            return {}
        return {
            name.lower(): None if value is None else self.text(value, f"{path}.{name}")
            for name, value in item.items()
        }

    def instances(self, item: object, path: str) -> Instances:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object of services, each with a list of instances")
            return {}
        found: dict[str, tuple[Instance, ...]] = {}
        for service, listed in item.items():
            if not isinstance(listed, list):
                self.wrong_type(f"{path}.{service}", "a list such as [{tags: [v1]}, {tags: [v2], count: 3}]")
                continue
            group: list[Instance] = []
            for i, each in enumerate(listed):
                tags, count = self.group(each, f"{path}.{service}[{i}]")
                group += [_instance(service, len(group) + j, tags) for j in range(count)]
            found[service] = tuple(group)
        return found

    def group(self, item: object, path: str) -> tuple[tuple[str, ...], int]:
        members = self.members(item, path, known=("tags", "count"))
        count = self.optional(members, path, "count", self.whole_between(1, COUNT_LIMIT))
        return (
            self.optional(members, path, "tags", self.tags) or (),
            1 if count is None or count > COUNT_LIMIT else max(count, 0),
        )


def _key(name: str) -> tuple[str, tuple[str, ...]]:
    """``tags``, ``service:tags`` or ``any``."""
    service, colon, rest = name.partition(":")
    if not colon:
        service, rest = "", name
    tags = [tag.strip() for tag in rest.split(",") if tag.strip()]
    return service.strip(), () if tags == ["any"] else tuple(sorted(tags))


def _instance(service: str, number: int, tags: tuple[str, ...]) -> Instance:
    endpoint = Endpoint("http", f"127.0.0.1:{number % 65535 + 1}")
    return Instance(f"{service}-{number + 1}", service, endpoint, status="UP", tags=tags)
