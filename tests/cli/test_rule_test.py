"""rule-test: offline and against a real controller, what fails and how it is shown."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from amalgam8.cli.main import main
from tests.cli.real import Real
from tests.cli.standin import Ran
from tests.controller.rules import delay, document
from tests.examples.programs import EXAMPLES

RULES = [document(id="default"), document(version="v2", id="web", priority=1, source="web")]
TESTS = {
    "tests": [
        {
            "name": "web",
            "source": {"name": "web"},
            "destination": "reviews",
            "expect": {"versions": {"v2": 1}},
        },
        {"name": "others", "destination": "reviews", "expect": {"versions": {"v2": 1}, "faults": []}},
    ]
}
Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def go(*argv: str) -> Ran:
        code = main(["rule-test", *argv])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return go


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A file of tests and a folder of rules."""
    tests, rules = tmp_path / "tests.yaml", tmp_path / "rules"
    tests.write_text(yaml.safe_dump(TESTS))
    rules.mkdir()
    (rules / "rules.json").write_text(json.dumps(RULES))
    return str(tests), str(rules)


def test_a_difference_is_shown_side_by_side(run: Run, files: tuple[str, str]) -> None:
    tests, rules = files
    ran = run("-f", tests, "--rules", rules)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "ok    web",
        f"FAIL  others ({tests})",
        "  versions:  expected  v2: 100 %",
        "             got       reviews:v1: 100 %",
    ]
    assert ran.err.splitlines() == ["1 of 2 passed", "a8ctl: 1 of 2 tests failed"]


async def test_against_the_controller(mesh: Real, files: tuple[str, str]) -> None:
    await mesh.controller.client.create(RULES)
    ran = await mesh("rule-test", "-f", files[0])
    assert (ran.code, ran.out.splitlines()[:2]) == (1, ["ok    web", f"FAIL  others ({files[0]})"])
    await mesh.controller.client.update([document(id="default", version="v2")])
    ran = await mesh("rule-test", "-f", files[0])
    assert (ran.code, ran.err) == (0, "2 of 2 passed\n")


def test_results_for_machines(run: Run, files: tuple[str, str], tmp_path: Path) -> None:
    report = tmp_path / "results.xml"
    ran = run("-f", files[0], "--rules", files[1], "--junit", str(report), "-o", "json")
    assert [(one["name"], one["passed"]) for one in json.loads(ran.out)] == [("web", True), ("others", False)]
    root = ElementTree.fromstring(report.read_bytes())  # noqa: S314 - written a moment ago
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("name")) == ("2", "1", files[0])
    web, others = suite.findall("testcase")
    assert web.find("failure") is None
    failure = others.find("failure")
    assert failure is not None
    assert failure.get("message") == "not as expected: versions"
    assert "expected  v2: 100 %" in (failure.text or "")


def test_names_that_xml_cannot_hold_are_shown(run: Run, tmp_path: Path) -> None:
    tests, rules, report = tmp_path / "t.yaml", tmp_path / "r.json", tmp_path / "x.xml"
    tests.write_text('tests: [{name: "a\\x07b<", destination: reviews, expect: {service: "x\\x07"}}]')
    rules.write_text(json.dumps(RULES))
    assert run("-f", str(tests), "--rules", str(rules), "--junit", str(report)).code == 1
    root = ElementTree.fromstring(report.read_bytes())  # noqa: S314 - written a moment ago
    assert [case.get("name") for case in root.iter("testcase")] == ["a\\x07b<"]


def test_the_example_holds(run: Run) -> None:
    folder = EXAMPLES / "bookinfo"
    ran = run("-f", str(folder / "rule-tests.yaml"), "--rules", str(folder / "rules"))
    assert (ran.code, ran.err) == (0, "6 of 6 passed\n")


def test_instances_are_those_of_the_file(run: Run, tmp_path: Path) -> None:
    tests, rules = tmp_path / "t.yaml", tmp_path / "r.json"
    rules.write_text(json.dumps([document(id="default"), delay("reviews", id="slow", priority=1)]))
    expect = {"refusal": {"kind": "unavailable", "rule": "default"}}
    given = {
        "instances": {"reviews": [{"tags": ["v2"]}]},
        "tests": [{"destination": "reviews", "expect": expect}],
    }
    tests.write_text(yaml.safe_dump(given))
    assert run("-f", str(tests), "--rules", str(rules)).code == 0


@pytest.mark.parametrize(
    ("tests", "rules", "said"),
    [
        ("tests: []", "[]", "t.yaml: $.tests: must be a list of at least one test"),
        ("tests: [", "[]", "t.yaml: line 2, column 1"),
        (yaml.safe_dump(TESTS), '[{"id": "a"}]', "r.json: $.rules[0]: has neither route nor actions"),
        (yaml.safe_dump(TESTS), "{", "r.json: line 1, column 2"),
        (yaml.safe_dump(TESTS), "[]", "r.json: holds no rules"),
    ],
)
def test_files_that_cannot_be_used(run: Run, tmp_path: Path, tests: str, rules: str, said: str) -> None:
    (tmp_path / "t.yaml").write_text(tests)
    (tmp_path / "r.json").write_text(rules)
    ran = run("-f", str(tmp_path / "t.yaml"), "--rules", str(tmp_path / "r.json"))
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_an_id_of_two_files_is_a_mistake(run: Run, files: tuple[str, str]) -> None:
    ran = run("-f", files[0], "--rules", files[1], "--rules", files[1])
    assert (ran.code, ran.err) == (2, "a8ctl: --rules: the id default is given twice\n")


def test_a_report_that_cannot_be_written(run: Run, files: tuple[str, str]) -> None:
    ran = run("-f", files[0], "--rules", files[1], "--junit", "/no/such/folder/x.xml")
    assert ran.code == 2
    assert "--junit: cannot write /no/such/folder/x.xml" in ran.err
