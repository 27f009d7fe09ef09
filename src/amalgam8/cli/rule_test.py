"""rule-test: rules held to what their tests expect, at the controller or before they get there.

With --rules nothing is asked of anybody: the rules come from files, the instances from the tests' own file.
A test that fails shows what was expected beside what came. JUnit's XML is for machines that collect results.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from xml.etree import ElementTree

import msgspec
import typer

from amalgam8.cli import documents, show, terms
from amalgam8.cli.connect import target_of
from amalgam8.cli.declare import files_at
from amalgam8.cli.expectations import Differs, differences
from amalgam8.cli.explained import read
from amalgam8.cli.suite_reader import RuleTest, Suite, read_suite
from amalgam8.model.errors import A8Error, InvalidInput
from amalgam8.model.rule import Rule, in_order, rfc3339
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.explain import Explanation, World, explain

if TYPE_CHECKING:
    from amalgam8.clients.controller import ControllerClient


class Failed(A8Error):
    """The answer of rule-test, where it is no."""

    code = "tests_failed"


class Result(msgspec.Struct, frozen=True):
    """What came of one test; no differences: it passed. ``seconds`` it took."""

    file: str
    name: str
    differences: tuple[Differs, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.differences


def rule_test(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Option(
            "-f", "--file", metavar="PATH", help="Tests: a file, a folder of files, or -. Repeatable."
        ),
    ],
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--rules",
            metavar="PATH",
            help="Test these rules, a file or a folder, in place of the controller's. Repeatable.",
        ),
    ] = None,
    junit: Annotated[
        str, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit's XML too.")
    ] = "",
    output: Annotated[
        show.Document | None, typer.Option("-o", "--output", help="Form, in place of text.")
    ] = None,
) -> None:
    """Hold rules to what their tests expect: versions and shares, faults, refusals.

    Against the controller's rules and the registry's instances, or offline with --rules.
    """
    suites = [(file, _suite(file)) for given in files for file in files_at(given)]
    results = offline(suites, rules_of(rules)) if rules else online(ctx, suites)
    if junit:
        _write(junit, results)
    _say(results, output)
    failed = sum(1 for result in results if not result.passed)
    if failed:
        raise Failed(f"{failed} of {len(results)} test{'s' if len(results) != 1 else ''} failed")


def online(ctx: typer.Context, suites: Sequence[tuple[str, Suite]]) -> list[Result]:
    """The results with what the controller explains."""

    async def ask(controller: "ControllerClient") -> list[Result]:
        found: list[Result] = []
        for file, suite in suites:
            for test in suite.tests:
                started = time.perf_counter()
                explanation = read(await controller.explain(test.document))
                found.append(_result(file, test, explanation, started))
        return found

    return target_of(ctx).with_controller(ask)


def offline(suites: Sequence[tuple[str, Suite]], rules: Sequence[Rule]) -> list[Result]:
    """The results with these rules, and the instances that each file names."""
    by_destination: dict[str, list[Rule]] = {}
    for rule in in_order(rules):
        by_destination.setdefault(rule.destination, []).append(rule)
    now = time.time()
    found: list[Result] = []
    for file, suite in suites:
        for test in suite.tests:
            started = time.perf_counter()
            world = World(by_destination, _parts(by_destination, test), suite.instances)
            found.append(_result(file, test, explain(world, test.caller, test.call, now), started))
    return found


def rules_of(paths: Sequence[str]) -> list[Rule]:
    """The rules of files, as the controller would have them if they were created in this order.

    Raises:
        InvalidInput: every finding, with its file.
    """
    found: list[Rule] = []
    for path in (file for given in paths for file in files_at(given)):
        try:
            found += read_list({"rules": documents.read_rules(path, quiet=True)})
        except InvalidInput as error:
            text = str(error)
            raise InvalidInput(text if text.startswith(path) else f"{path}: {text}") from None
    ids = [rule.id for rule in found if rule.id]
    if twice := sorted({identity for identity in ids if ids.count(identity) > 1}):
        raise InvalidInput(f"--rules: the id {twice[0]} is given twice")
    return [
        msgspec.structs.replace(rule, id=rule.id or f"rule-{i + 1}", created=rfc3339(i))
        for i, rule in enumerate(found)
    ]


def junit_of(results: Sequence[Result]) -> bytes:
    """JUnit's XML, in the form that continuous integration reads: one suite for each file."""
    root = ElementTree.Element("testsuites")
    for file in dict.fromkeys(result.file for result in results):
        mine = [result for result in results if result.file == file]
        failures = sum(1 for result in mine if not result.passed)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=show.clean(file),
            tests=str(len(mine)),
            failures=str(failures),
            errors="0",
            skipped="0",
            time=f"{sum(result.seconds for result in mine):.3f}",
        )
        for result in mine:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                name=show.clean(result.name),
                classname=show.clean(file),
                time=f"{result.seconds:.3f}",
            )
            if not result.passed:
                what = ", ".join(each.what for each in result.differences)
                failure = ElementTree.SubElement(case, "failure", message=f"not as expected: {what}")
                failure.text = "\n".join(lines(result))
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def lines(result: Result) -> list[str]:
    """What differs, for people."""
    found: list[str] = []
    for each in result.differences:
        head = f"{each.what}:"
        for word, texts in (("expected", each.expected), ("got", each.got)):
            for i, text in enumerate(texts):
                found.append(f"  {head:10} {word if i == 0 else '':8}  {show.clean(text)}")
                head = ""
    return found


def _parts(by_destination: dict[str, list[Rule]], test: RuleTest) -> Callable[[str], Any]:
    def part(name: str) -> Any:
        rules = by_destination.get(name)
        return None if rules is None else compile(rules, test.caller)

    return part


def _suite(file: str) -> Suite:
    text, name = documents.read_text(file, quiet=True)
    return read_suite(documents.parse(text, name), name)


def _result(file: str, test: RuleTest, found: Explanation, started: float) -> Result:
    differs = tuple(differences(test.expect, found))
    return Result(file, test.name, differs, time.perf_counter() - started)


def _write(path: str, results: Sequence[Result]) -> None:
    try:
        Path(path).write_bytes(junit_of(results))
    except OSError as error:
        raise InvalidInput(f"--junit: cannot write {path}: {error.strerror}") from None


def _say(results: Sequence[Result], output: show.Document | None) -> None:
    if output is not None:
        show.document(
            [{**msgspec.to_builtins(result), "passed": result.passed} for result in results], output
        )
        return
    for result in results:
        if result.passed:
            show.say(f"{show.painted(show.coloured('ok', 'green'))}    {show.clean(result.name)}")
            continue
        fail = show.painted(show.coloured("FAIL", "red"))
        show.say(f"{fail}  {show.clean(result.name)} ({show.clean(result.file)})")
        for line in lines(result):
            show.say(line)
    passed = sum(1 for result in results if result.passed)
    terms.note(f"{passed} of {len(results)} passed")
