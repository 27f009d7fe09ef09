"""The REST API of questions: what happens to a call, now or if other rules were there.

Wire format: ``docs/reference/controller-api.md``. What the answer says is ``routing.explain``'s; this reads
the question and hands over the parts that the caller's sidecar is given. Nothing is written.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from amalgam8.clients.instances import Groups
from amalgam8.controller import rulebook
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.catalogue import Catalogue
from amalgam8.controller.plans import Plans
from amalgam8.controller.rulebook import Write, changed, finished
from amalgam8.controller.tenants import Tenants
from amalgam8.controller.terms import etag
from amalgam8.model.caller import Caller
from amalgam8.model.rule import Rule
from amalgam8.model.rule_reader import read_document
from amalgam8.routing.call_reader import MEMBERS, CallReader
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.explain import Call, World, explain
from amalgam8.routing.plan import DestinationPlan
from amalgam8.web.app import json_response
from amalgam8.web.auth import Auth

WITH_LIMIT = 500
"""Rules that a question may suppose, and ids that it may leave out."""


class Question(msgspec.Struct, frozen=True):
    """Supposes ``rules`` to be there, in place of those of the same ids, and ``without`` not to be."""

    caller: Caller
    call: Call
    rules: tuple[Rule, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def supposes(self) -> bool:
        return bool(self.rules or self.without)


class ExplainApi:
    """Handlers of ``/v1/explain``."""

    def __init__(self, tenants: Tenants, catalogue: Catalogue, auth: Auth) -> None:
        self._tenants = tenants
        self._catalogue = catalogue
        self._auth = auth

    def routes(self) -> list[BaseRoute]:
        return [Route("/v1/explain", self.explain, methods=["POST"])]

    async def explain(self, request: Request) -> Response:
        """``POST /v1/explain``."""
        name = self._auth.tenant_of(request)
        question = read_question(await request.body())
        tenant = await self._tenants.get(name)
        groups = await self._catalogue.groups(name)
        book, plans = tenant.mirror.book, tenant.plans
        if question.supposes:
            change = self._tenants.try_out(tenant, question_change(question))
            around = supposed(apply(book, change) if change else book, question.caller, groups)
        else:
            around = present(book, plans, question.caller, groups)
        found = explain(around, question.caller, question.call, self._tenants.now())
        body = {"revision": book.revision, **msgspec.structs.asdict(found)}
        return json_response(body, headers=etag(book.revision))


def present(book: Rulebook, plans: Plans, who: Caller, groups: Groups | None) -> World:
    """The rules as they are: the parts are those that the caller's sidecar is sent, byte for byte."""

    def part(name: str) -> DestinationPlan | None:
        found = plans.part(who, name)
        return None if found is None else msgspec.json.decode(found.encoded, type=DestinationPlan)

    return World(book.by_destination, part, groups)


def supposed(book: Rulebook, who: Caller, groups: Groups | None) -> World:
    """Rules that nobody has: their parts are made for this question."""

    def part(name: str) -> DestinationPlan | None:
        rules = book.by_destination.get(name)
        return None if rules is None else compile(rules, who)

    return World(book.by_destination, part, groups)


def question_change(question: Question) -> Any:
    """The operation that would make the rules what a question supposes.

    It raises RuleNotFound for an id to be left out that is not there, and what a write would raise.
    """

    def operation(book: Rulebook, write: Write) -> Change | None:
        gone = rulebook.select(book, rulebook.Selection(ids=question.without)) if question.without else []
        before = {rule.id: rule for rule in gone}
        before |= {rule.id: book.rules[rule.id] for rule in question.rules if rule.id in book.rules}
        after = finished(book, question.rules, write)
        return changed(book, "apply", tuple(before.values()), after, write)

    return operation


def read_question(body: bytes) -> Question:
    """Read the body of a question.

    Raises:
        InvalidJson, InvalidRule: with every finding and its path.
    """
    document = read_document(body)
    reader = CallReader()
    members = reader.members(document, "$", known=(*MEMBERS, "with", "without"))
    who, call = reader.call(members, "$")
    rules = _rules(reader, members)
    without = reader.optional(members, "$", "without", reader.tags) or ()
    reader.limit("$.without", len(without), WITH_LIMIT, "ids")
    reader.finish()
    return Question(who, call, rules, without)


def _rules(reader: CallReader, members: Mapping[str, Any]) -> tuple[Rule, ...]:
    listed = members.get("with")
    if listed is None:
        return ()
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        reader.wrong_type("$.with", "a list of rules")
        return ()
    reader.limit("$.with", len(listed), WITH_LIMIT, "rules")
    rules = tuple(reader.rule(item, f"$.with[{i}]") for i, item in enumerate(listed[:WITH_LIMIT]))
    seen: set[str] = set()
    for i, rule in enumerate(rules):
        if rule.id and rule.id in seen:
            reader.say(f"$.with[{i}].id", "the same id as a rule before it")
        seen.add(rule.id)
    return rules
