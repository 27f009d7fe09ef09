"""validate: findings with their places, warnings, and the exit code of each answer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from amalgam8.cli.main import main
from tests.cli.standin import Cli, Ran
from tests.conftest import free_port

Validate = Callable[..., Ran]

STATUS = "must be a status from 200 to 599, or -1 for no answer"
GOOD = """\
rules:
  - id: default
    destination: reviews
    route: {backends: [{tags: [v1]}]}
"""
BAD = """\
rules:
  - id: default
    destinatoin: reviews
    priority: high
    route:
      backends:
        - {tags: [v1], wieght: 0.5}
        - {tags: [v2], weight: 2}
  - id: default
    destination: ratings
    actions:
      - {action: abort, return_code: 700}
    match: {headers: {Cookie: "(?=x)"}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def write(text: str, name: str = "rules.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def validate(capsys: pytest.CaptureFixture[str]) -> Validate:
    def run(*argv: str) -> Ran:
        code = main(["validate", *argv])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def test_sound_rules(file: Callable[..., str], validate: Validate) -> None:
    ran = validate("-f", file(GOOD), "--offline")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines() == [
        "services and versions were not checked: --offline",
        "1 file, 1 sound rule: 0 errors, 0 warnings",
    ]


def test_every_finding_has_its_place(file: Callable[..., str], validate: Validate) -> None:
    path = file(BAD)
    ran = validate("-f", path, "--offline")
    assert ran.code == 1
    assert [line.removeprefix(f"{path}:") for line in ran.out.splitlines()] == [
        "2:5: error: $.rules[0].destination: is missing: name the service that the rule is for",
        "3:5: error: $.rules[0].destinatoin: unknown member; did you mean destination?",
        "4:15: error: $.rules[0].priority: expected a whole number",
        "7:9: error: $.rules[0].route.backends: weights sum to 2, which is above 1",
        "7:24: error: $.rules[0].route.backends[0].wieght: unknown member; did you mean weight?",
        "8:32: error: $.rules[0].route.backends[1].weight: must be between 0 and 1 (0 = not set)",
        f"9:9: error: $.rules[1].id: the same id as in {path}, rule 1",
        "12:38: error: $.rules[1].actions[0].return_code: " + STATUS,
        "13:31: error: $.rules[1].match.headers.Cookie: no RE2 pattern: invalid perl operator: (?=",
    ]
    assert ran.err.splitlines()[-1] == "a8ctl: the rules are not valid"


def test_the_same_in_json(file: Callable[..., str], validate: Validate) -> None:
    text = json.dumps({"rules": [{"id": "a", "destination": "d", "route": {"backends": []}}]}, indent=1)
    path = file(text, "rules.json")
    ran = validate("-f", path, "--offline", "-o", "json")
    (finding,) = json.loads(ran.out)["findings"]
    assert ran.code == 1
    assert (finding["line"], finding["column"], finding["path"]) == (7, 17, "$.rules[0].route.backends")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("rules:\n  - id: [\n", "a.yaml", ":3:1: error: did not find expected node content"),
        ('{"rules": [}', "a.json", ":1:12: error: Expecting value"),
        ("rules:\n- a: 1\n  a: 2\n", "a.yaml", ":3:3: error: the member a is given twice"),
        ("rules: []\n", "a.yaml", ": error: holds no rules"),
    ],
)
def test_a_text_that_is_none(
    file: Callable[..., str], validate: Validate, text: str, name: str, said: str
) -> None:
    path = file(text, name)
    ran = validate("-f", path, "--offline")
    assert (ran.code, ran.out) == (1, f"{path}{said}\n")


def test_a_folder_is_one_set(file: Callable[..., str], validate: Validate, tmp_path: Path) -> None:
    one, two = file(GOOD, "rules/a.yaml"), file("# b\n" + GOOD, "rules/b.yaml")
    ran = validate("-f", str(tmp_path / "rules"), "--offline")
    assert (ran.code, ran.out) == (1, f"{two}:3:9: error: $.rules[0].id: the same id as in {one}, rule 1\n")


def test_a_bare_list_and_a_single_rule(file: Callable[..., str], validate: Validate) -> None:
    bare = file("- id: a\n  destination: d\n  actions: [{action: delay}]\n")
    assert validate("-f", bare, "--offline").out.startswith(
        f"{bare}:3:13: error: $.rules[0].actions[0].duration"
    )
    single = file("id: a\ndestination: d\nactions: [{action: delay}]\n")
    assert validate("-f", single, "--offline").out.startswith(f"{single}:3:11: error: $.rules[0].actions[0]")


def test_a_rule_that_is_hidden_is_a_warning(file: Callable[..., str], validate: Validate) -> None:
    path = file(
        GOOD
        + """\
  - destination: reviews
    match: {headers: {Cookie: user=jason}}
    route: {backends: [{tags: [v2]}]}
"""
    )
    ran = validate("-f", path, "--offline")
    why = "never acts: default matches whatever it matches, and is tried first"
    text = f"{path}:5:5: warning: $.rules[1]: {why}\n"
    assert (ran.code, ran.out) == (0, text)
    strict = validate("-f", path, "--offline", "--strict")
    assert (strict.code, strict.out) == (1, text)
    assert strict.err.splitlines()[-1] == "a8ctl: there are warnings"


REGISTERED = {
    "instances": [
        {
            "id": "1",
            "service_name": "reviews",
            "endpoint": {"type": "http", "value": "10.0.0.1:1"},
            "tags": ["v1"],
        }
    ]
}


async def test_versions_that_nobody_runs(a8ctl: Cli, file: Callable[..., str]) -> None:
    a8ctl.server.answers[("GET", "/api/v1/instances")] = REGISTERED
    path = file(
        """\
rules:
- destination: reviews
  route: {backends: [{tags: [v1], weight: 0.5}, {tags: [v2]}]}
- destination: ratings
  actions: [{action: delay, duration: 1}]
- destination: reviews
  priority: 1
  route: {backends: [{name: other, tags: [v1]}]}
  match: {source: {name: gateway}}
- destination: reviews
  actions: [{action: mirror, tags: [v3]}]
"""
    )
    ran = await a8ctl("validate", "-f", path)
    assert ran.code == 0
    assert [line.removeprefix(f"{path}:") for line in ran.out.splitlines()] == [
        "3:56: warning: $.rules[0].route.backends[1].tags: no instance of reviews carries v2",
        "4:16: warning: $.rules[1].destination: no instance of ratings is registered",
        "8:29: warning: $.rules[2].route.backends[0].name: no instance of other is registered",
        "8:42: warning: $.rules[2].route.backends[0].tags: no instance of other is registered",
        "11:36: warning: $.rules[3].actions[0].tags: no instance of reviews carries v3",
    ]
    assert "not checked" not in ran.err


def test_a_registry_that_is_not_there_is_said(file: Callable[..., str], validate: Validate) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ran = validate("-f", file(GOOD), "--registry-url", url)
    assert ran.code == 0
    assert f"services and versions were not checked: {url} cannot be reached" in ran.err


def test_a_file_that_is_not_there_is_a_mistake_of_usage(validate: Validate) -> None:
    assert validate("-f", "/no/such.yaml", "--offline").code == 2
    assert validate().code == 2
