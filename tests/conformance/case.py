"""Cases of conformance as data: rules, instances and a caller; then requests, and what must come of each.

A case is written in YAML (``cases/*.yaml``, by subject). ``$name`` in it stands for the name of a service,
which is another one in each case, so that nothing is left of the case before. What is written about a
request is checked against ``decide`` and against a real proxy.
"""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from amalgam8.model.caller import Caller, parse_caller
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.rule import Rule, rfc3339
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.decide import Request, joined
from amalgam8.routing.plan import DestinationPlan

FOLDER = Path(__file__).with_name("cases")
OWN_SERVICE = "shop"
"""The service that the sidecar under test belongs to."""

NOW = 1_000_000_000.0
"""The time of all cases; ``expires`` is written in seconds from it, as ``+60`` or ``-1``."""


class Sees(msgspec.Struct, forbid_unknown_fields=True):
    """What the instance must be asked: all that is given here; none of ``lacks`` may come."""

    path: str = ""
    method: str = ""
    headers: dict[str, str] = {}
    lacks: list[str] = []
    size: int | None = None


class Ask(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request, sent ``times`` times (0: as often as the check needs), and what must come of it.

    ``path`` is ``/$svc/x`` where nothing else is written. A ``chunked`` body does not say its length.

    ``to`` are the instances that may answer, and each of them must; ``split`` gives each its share.
    ``status`` is the answer's, or the share of each (-1: no complete answer). ``seconds`` are bounds for the
    answer's time; the upper one is generous. ``copies`` is the share of copies for each instance.
    ``each_user``: as ``split``, over users that are told apart by this header or ``cookie:NAME``.
    """

    path: str
    method: str = "GET"
    headers: dict[str, str] | list[tuple[str, str]] = {}
    body: int = 0
    chunked: bool = False
    times: int = 0
    to: list[str] | None = None
    split: dict[str, float] | None = None
    each_user: str = ""
    status: int | dict[int, float] = 200
    reason: str = ""
    sees: Sees | None = None
    seconds: tuple[float, float] | None = None
    rules: list[str] | None = None
    copies: dict[str, float] | None = None
    answers: dict[str, str] = {}
    record: dict[str, Any] | None = None

    def pairs(self) -> list[tuple[str, str]]:
        found = self.headers.items() if isinstance(self.headers, dict) else self.headers
        return [(name, value) for name, value in found]

    def request(self) -> Request:
        return Request(self.path, {"host": "mesh", **joined(self.pairs())}, self.method)

    @property
    def statuses(self) -> dict[int, float]:
        return self.status if isinstance(self.status, dict) else {self.status: 1.0}


class Given(msgspec.Struct, forbid_unknown_fields=True):
    """An instance: its tags, the type of its endpoint, and what is odd about it."""

    tags: list[str] = []
    type: str = "http"
    host: str = "127.0.0.1"
    dead: bool = False


class Case(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``proves`` names the clause. ``needs`` are features of a proxy beyond the plainest."""

    name: str
    proves: str
    asks: list[Ask]
    needs: list[str] = []
    caller: str = "web"
    instances: dict[str, dict[str, list[str] | Given]] = {}
    rules: list[dict[str, Any]] = []

    @property
    def who(self) -> Caller:
        return parse_caller(self.caller)

    def given(self) -> list[tuple[str, str, Given]]:
        """Service, name and nature of each instance."""
        return [
            (service, name, given if isinstance(given, Given) else Given(given))
            for service, found in self.instances.items()
            for name, given in found.items()
        ]

    def read_rules(self) -> list[Rule]:
        """The rules as the controller would have them: read, checked, each a little younger than the last."""
        documents = [{"destination": _default(self.instances), **rule} for rule in self.rules]
        for document in documents:
            if isinstance(document.get("expires"), (int, str)):
                document["expires"] = rfc3339(NOW + float(document["expires"]))
        if not documents:
            return []
        return [
            msgspec.structs.replace(rule, id=rule.id or f"rule-{age}", created=rfc3339(age))
            for age, rule in enumerate(read_list({"rules": documents}))
        ]

    def plan(self) -> dict[str, DestinationPlan]:
        groups: dict[str, list[Rule]] = {}
        for rule in self.read_rules():
            groups.setdefault(rule.destination, []).append(rule)
        parts = {name: compile(group, self.who) for name, group in groups.items()}
        return {name: part for name, part in parts.items() if part is not None}

    def registered(self, ports: dict[str, int], *, dead: bool = True) -> dict[str, tuple[Instance, ...]]:
        """The instances by service, as the registry would know them, at these ports.

        ``dead`` False: without those that nobody can reach, which ``decide`` knows nothing about.
        """
        found: dict[str, tuple[Instance, ...]] = dict.fromkeys(self.instances, ())
        for service, name, given in self.given():
            if given.dead and not dead:
                continue
            endpoint = Endpoint(given.type, f"{given.host}:{ports[name]}")
            instance = Instance(name, service, endpoint, 60, "UP", tags=tuple(given.tags))
            found[service] = (*found[service], instance)
        return found


def _default(instances: dict[str, Any]) -> str:
    return next(iter(instances), "")


def read_cases() -> list[Case]:
    """All cases of all files, with the names of their services put in."""
    found: list[Case] = []
    for file in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load(file.read_text(encoding="utf-8")):
            for ask in document["asks"]:
                ask.setdefault("path", "/$svc/x")
            text = re.sub(r"\$([a-z]+)", rf"\g<1>{len(found)}", json.dumps(document))
            found.append(msgspec.convert(json.loads(text), Case, strict=False))
    return found
