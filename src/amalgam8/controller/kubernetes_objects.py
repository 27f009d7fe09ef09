"""Rules and revisions as custom resources of Kubernetes, in and out. Pure.

Kinds ``RoutingRule`` (one rule, for people and ``kubectl``) and ``RuleRevision`` (one change; its name is
the tenant and the number, so that only one can have it). Their schemas: ``deploy/kubernetes/crds.yaml``. What
a RoutingRule says counts once it is in a revision; ``rebuild`` tells what the revisions and rules add up to.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from amalgam8.catalogs.kubernetes.objects import Object
from amalgam8.controller.book import Change, Rulebook, Unconfirmed, Written, book_of, micros, waiting
from amalgam8.model.errors import BodyTooLarge
from amalgam8.model.rule import Rule

VERSION = "amalgam8.io/v1"
RULES, REVISIONS = "routingrules", "rulerevisions"
DEFAULT_TENANT = "default"

TENANT = "amalgam8.io/tenant"
ID = "amalgam8.io/id"
REVISION = "amalgam8.io/revision"
WRITTEN_AT = "amalgam8.io/written-at"
IMPORT = "amalgam8.io/import"
"""Annotations of what a controller wrote; the first is a label too. IMPORT: counts from that revision on."""


REVISION_LIMIT = 1_000_000
"""Bytes of one change; Kubernetes keeps objects of 1.5 MB at most."""

_NAME = re.compile(r"(?!.{201})[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"(?!a8-)[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")

Json = dict[str, Any]


class RuleStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Written back: ``state`` is ``valid`` or ``invalid``, of the object's ``observedGeneration``."""

    state: str = ""
    message: str = ""
    revision: int = 0
    observed_generation: int = 0


class RuleObject(Object, frozen=True):
    """A RoutingRule as it is read; ``spec`` is whatever somebody wrote."""

    spec: msgspec.Raw = msgspec.Raw()
    status: RuleStatus | None = None

    def note(self, name: str) -> str:
        """One of the annotations above; empty: it has none."""
        return (self.metadata.annotations or {}).get(name, "")

    @property
    def tenant(self) -> str:
        return self.note(TENANT) or DEFAULT_TENANT

    @property
    def revision(self) -> int | None:
        """The revision that a controller wrote it for; None: no controller did."""
        text = self.note(REVISION)
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def judged(self) -> bool:
        """Whether its status is about what it says now."""
        status = self.status or RuleStatus()
        return bool(status.state) and status.observed_generation == self.metadata.generation

    def says(self) -> Any:
        """The spec as JSON values; None: there is none."""
        return msgspec.json.decode(self.spec) if bytes(self.spec) else None

    def rule(self) -> Rule | None:
        """The rule that a controller wrote, unless somebody changed it into something else."""
        try:
            return msgspec.json.decode(self.spec, type=Rule)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


class Revision(msgspec.Struct, frozen=True):
    """``change`` None: all that there is was imported, with no history up to here."""

    tenant: str
    revision: int
    change: Change | None = None
    imported: bool = False
    unconfirmed: tuple[Unconfirmed, ...] = ()


class RevisionObject(Object, frozen=True):
    """A RuleRevision as it is read."""

    spec: Revision


def key_of(tenant: str) -> str:
    """The tenant in names and labels: itself where it may stand there, else a hash of it."""
    return tenant if _LABEL.fullmatch(tenant) else "a8-" + _hash(tenant)


def rule_name(tenant: str, identity: str) -> str:
    """The object's name: the rule's id where it may be one, and the tenant is the default one."""
    if tenant == DEFAULT_TENANT and _NAME.fullmatch(identity) and not identity.startswith("a8-"):
        return identity
    return "a8-" + _hash(f"{tenant}\0{identity}")


def revision_name(tenant: str, revision: int) -> str:
    return f"{key_of(tenant)}.{revision}"


def rule_object(tenant: str, rule: Rule, written: Written, *, imported: int = 0) -> Json:
    """The RoutingRule of a rule; ``imported``: it counts from that revision on."""
    notes = {TENANT: tenant, ID: rule.id, REVISION: str(written.revision), WRITTEN_AT: written.at}
    if imported:
        notes[IMPORT] = str(imported)
    return {
        "apiVersion": VERSION,
        "kind": "RoutingRule",
        "metadata": {
            "name": rule_name(tenant, rule.id),
            "labels": {TENANT: key_of(tenant)},
            "annotations": notes,
        },
        "spec": msgspec.Raw(msgspec.json.encode(rule)),
    }


def revision_object(revision: Revision) -> Json:
    """The RuleRevision of a change."""
    return {
        "apiVersion": VERSION,
        "kind": "RuleRevision",
        "metadata": {
            "name": revision_name(revision.tenant, revision.revision),
            "labels": {TENANT: key_of(revision.tenant)},
        },
        "spec": revision,
    }


def status_of(one: RuleObject, state: str, message: str = "", revision: int = 0) -> Json:
    """The body of a patch of its status."""
    status = RuleStatus(state, message, revision, one.metadata.generation)
    return {"status": status}


def by_tenant(revisions: Iterable[Revision]) -> dict[str, list[Revision]]:
    """Revisions of each tenant, oldest first, from the last hole on."""
    found: dict[str, list[Revision]] = {}
    for one in sorted(revisions, key=lambda one: one.revision):
        log = found.setdefault(one.tenant, [])
        if log and log[-1].revision != one.revision - 1:
            log.clear()
        log.append(one)
    return found


def rebuild(log: Sequence[Revision], objects: Iterable[RuleObject]) -> Rulebook:
    """What a tenant's revisions (oldest first, no hole) and its RoutingRules add up to.

    Objects may lag behind the revisions, so those are gone through again; what was written before the
    oldest of them stands in the objects.
    """
    if not log:
        return Rulebook()
    head = log[-1].revision
    rules: dict[str, Rule] = {}
    written: dict[str, Written] = {}
    for one in objects:
        rule, at = one.rule(), one.revision
        if rule is not None and at is not None and at <= head and _imported(one) <= head:
            rules[rule.id] = rule
            written[rule.id] = Written(at, one.note(WRITTEN_AT))
    unconfirmed: tuple[Unconfirmed, ...] = ()
    for entry in log:
        if entry.imported:
            unconfirmed = entry.unconfirmed
        elif entry.change is not None:
            unconfirmed = waiting(unconfirmed, entry.change)
        if entry.change is not None:
            _go_through(entry.change, rules, written)
    newest = max((_micros(rule) for rule in rules.values()), default=0)
    return book_of(rules.values(), head, newest, written, unconfirmed)


def _go_through(change: Change, rules: dict[str, Rule], written: dict[str, Written]) -> None:
    for rule in change.before:
        if rule.id in rules and written[rule.id].revision < change.revision:
            del rules[rule.id], written[rule.id]
    for rule in change.after:
        if rule.id not in rules or written[rule.id].revision < change.revision:
            rules[rule.id] = rule
            written[rule.id] = Written(change.revision, change.at)


def leftovers(objects: Mapping[str, RuleObject], heads: Mapping[str, int]) -> list[str]:
    """Names of objects of an import that never came to its end."""
    return [name for name, one in objects.items() if _imported(one) > heads.get(one.tenant, 0)]


def _imported(one: RuleObject) -> int:
    text = one.note(IMPORT)
    return int(text) if text.isascii() and text.isdigit() else 0


def _micros(rule: Rule) -> int:
    return micros(rule.created) if rule.created else 0


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def bounded(body: Json) -> Json:
    """The same object, which must not be larger than Kubernetes keeps.

    Raises:
        BodyTooLarge: it is.
    """
    size = len(msgspec.json.encode(body))
    if size > REVISION_LIMIT:
        raise BodyTooLarge(
            f"this change takes {size} bytes as one object of Kubernetes; at most {REVISION_LIMIT} are kept:"
            " write it in several parts"
        )
    return body
