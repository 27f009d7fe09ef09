"""validate: what is wrong with rule files, each finding with file, line and column; nothing is sent.

Errors are what the controller would refuse. Warnings are rules that would be taken and do nothing: hidden by
another one, or for services and versions that nobody runs, for which the registry is asked. What could not
be asked is said to be unchecked, never taken to be fine.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from amalgam8.cli import documents, show, terms
from amalgam8.cli.connect import target_of
from amalgam8.cli.declare import files_at
from amalgam8.cli.documents import BadText
from amalgam8.cli.places import Place, Places
from amalgam8.model.errors import A8Error, Problem
from amalgam8.model.rule import Rule
from amalgam8.model.rule_reader import RuleReader
from amalgam8.routing.shadow import shadows

if TYPE_CHECKING:
    from amalgam8.cli.connect import Target

Severity = Literal["error", "warning"]
COLOURS = {"error": "red", "warning": "yellow"}

Versions = Mapping[str, Sequence[frozenset[str]]]
"""The tags of each instance, by service."""


class Invalid(A8Error):
    """The answer of validate, where it is no."""

    code = "invalid"


class Finding(msgspec.Struct, frozen=True, order=True):
    """``line`` and ``column`` from 1, 0: not known; ``path`` is the member's, empty: it is about the text."""

    file: str
    line: int
    column: int
    severity: Severity
    path: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        about = f"{self.path}: " if self.path else ""
        return f"{show.clean(where)}: {self.severity}: {show.clean(about + self.text)}"


class Checked(msgspec.Struct, frozen=True):
    """One rule of a file: ``place`` finds its members, which stand below ``path``."""

    rule: Rule
    file: str
    path: str
    places: Places


def validate(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Option("-f", "--file", metavar="PATH", help="A file, a folder of files, or -. Repeatable."),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings end with exit code 1 too.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the registry who runs which version.")
    ] = False,
    output: Annotated[
        show.Document | None, typer.Option("-o", "--output", help="Form, in place of text.")
    ] = None,
) -> None:
    """Check rule files: what the controller would refuse, and rules that would do nothing.

    Nothing is sent to the controller; the registry is asked which services and versions there are.
    """
    paths = [file for given in files for file in files_at(given)]
    findings, rules = check(paths)
    versions, unchecked = (None, "--offline") if offline else _versions(target_of(ctx))
    findings += [*hidden(rules), *(nobody(rules, versions) if versions is not None else ())]
    findings.sort()
    _say(findings, len(paths), len(rules), unchecked, output)
    errors = sum(1 for one in findings if one.severity == "error")
    if errors or (strict and findings):
        raise Invalid("the rules are not valid" if errors else "there are warnings")


def check(paths: Iterable[str]) -> tuple[list[Finding], list[Checked]]:
    """What is wrong with the files, and the rules in which nothing is."""
    findings: list[Finding] = []
    checked: list[Checked] = []
    owners: dict[str, str] = {}
    for path in paths:
        text, name = documents.read_text(path, quiet=True)
        try:
            value = documents.parse(text, name)
            listed = documents.rules_in(value, name)
        except BadText as error:
            findings.append(Finding(name, error.line, error.column, "error", "", error.reason))
            continue
        places = Places(text, name, _root(value))
        for i, item in enumerate(listed):
            reader = RuleReader()
            rule = reader.rule(item, f"$.rules[{i}]")
            if (
                rule.id
                and (owner := owners.setdefault(rule.id, f"{name}, rule {i + 1}")) != f"{name}, rule {i + 1}"
            ):
                reader.say(f"$.rules[{i}].id", f"the same id as in {owner}")
            findings += [_finding(name, "error", problem, places) for problem in reader.problems]
            if not reader.problems:
                checked.append(Checked(rule, name, f"$.rules[{i}]", places))
    return findings, checked


def hidden(rules: Sequence[Checked]) -> Iterator[Finding]:
    """A warning for each rule that another one hides."""
    # Ids may be missing, and the order in the files is the age that the rules will have.
    numbered = {str(i): one for i, one in enumerate(rules)}
    aged = [
        msgspec.structs.replace(one.rule, id=number, created=f"{int(number):08}")
        for number, one in numbered.items()
    ]
    for shadow in shadows(aged):
        one, by = numbered[shadow.rule.id], numbered[shadow.by.id]
        what = "never acts" if shadow.whole else f"its {' and '.join(shadow.kinds)} never acts"
        who = by.rule.id or f"the rule at {by.file}:{by.places.of(by.path).line}"
        text = f"{what}: {who} matches whatever it matches, and is tried first"
        yield _finding(one.file, "warning", Problem(one.path, text), one.places)


def nobody(rules: Iterable[Checked], versions: Versions) -> Iterator[Finding]:
    """A warning for each service that is not there, and each version that nobody runs."""
    for one in rules:
        for path, service, tags in _named(one.rule, one.path):
            there = versions.get(service)
            if not there:
                text = f"no instance of {service} is registered"
            elif not any(set(tags) <= carried for carried in there):
                text = f"no instance of {service} carries {', '.join(tags)}"
            else:
                continue
            yield _finding(one.file, "warning", Problem(path, text), one.places)


def _named(rule: Rule, path: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Every service and version that a rule names, and where."""
    yield f"{path}.destination", rule.destination, ()
    for i, backend in enumerate(rule.route.backends if rule.route else ()):
        at = f"{path}.route.backends[{i}]"
        if backend.name:
            yield f"{at}.name", backend.name, ()
        yield f"{at}.tags", backend.name or rule.destination, backend.tags
    for i, action in enumerate(rule.actions):
        if tags := getattr(action, "tags", ()):
            yield f"{path}.actions[{i}].tags", rule.destination, tags


def _finding(file: str, severity: Severity, problem: Problem, places: Places) -> Finding:
    member = problem.reason.startswith("unknown member")
    place: Place = places.of(problem.path, member=member)
    return Finding(file, place.line, place.column, severity, problem.path, problem.reason)


def _root(value: Any) -> str:
    """The path of a document's outermost value, as if it had its ``rules:`` wrapper."""
    if isinstance(value, list):
        return "$.rules"
    return "$" if isinstance(value, dict) and "rules" in value else "$.rules[0]"


def _versions(target: "Target") -> tuple[Versions | None, str]:
    """What the registry knows, or why it could not be asked."""
    try:
        instances = target.with_registry(lambda registry: registry.instances(status="UP"))
    except A8Error as error:
        return None, str(error)
    found: dict[str, list[frozenset[str]]] = {}
    for one in instances:
        found.setdefault(one.service_name, []).append(frozenset(one.tags))
    return found, ""


def _say(
    findings: Sequence[Finding], files: int, rules: int, unchecked: str, output: show.Document | None
) -> None:
    if output is not None:
        whole = {"files": files, "rules": rules, "findings": findings, "unchecked": unchecked}
        show.document(whole, output)
        return
    for one in findings:
        show.say(show.painted(show.coloured(str(one), COLOURS[one.severity])))
    if unchecked:
        terms.note(f"services and versions were not checked: {unchecked}")
    count = {severity: sum(1 for one in findings if one.severity == severity) for severity in COLOURS}
    told = ", ".join(f"{number} {word}{'s' if number != 1 else ''}" for word, number in count.items())
    terms.note(
        f"{files} file{'s' if files != 1 else ''}, {rules} sound rule{'s' if rules != 1 else ''}: {told}"
    )
