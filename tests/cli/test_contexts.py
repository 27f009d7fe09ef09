"""Names for meshes: what is kept, and what wins."""

import json
import stat
from pathlib import Path

import pytest

from amalgam8.cli.connect import target_from
from amalgam8.cli.context_file import read
from amalgam8.cli.main import main
from tests.cli.standin import Cli

A = "http://a.example:1"
B = "http://b.example:2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "a8" / "config.yaml"


def put(name: str, *flags: str) -> None:
    assert main(["context-set", name, *flags]) == 0


def test_a_context_is_kept_for_its_user_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("one", "--controller-url", A, "--controller-token", "geheim", "--registry-url", B)
    put("two", "--controller-url", B)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "geheim" in file.read_text()
    capsys.readouterr()
    assert main(["context-list", "-o", "json"]) == 0
    shown = capsys.readouterr().out
    assert "geheim" not in shown
    assert [(row["name"], row["current"], row["tokens"]) for row in json.loads(shown)] == [
        ("one", True, ["controller_token"]),
        ("two", False, []),
    ]
    assert [path.name for path in file.parent.iterdir()] == ["config.yaml"]


def test_one_is_chosen_changed_and_forgotten(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("one", "--controller-url", A)
    put("two", "--controller-url", B)
    assert main(["context-use", "two"]) == 0
    assert target_from({}).controller_url == B
    assert target_from({"context": "one"}).controller_url == A
    put("two", "--registry-url", A)
    assert (target_from({}).controller_url, target_from({}).registry_url) == (B, A)
    assert main(["context-delete", "two"]) == 0
    assert target_from({}).controller_url == "http://localhost:31200"
    assert main(["context-use", "two"]) == 1
    assert "there is no context two; there are: one" in capsys.readouterr().err


def test_flags_and_environment_win(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put("one", "--controller-url", A, "--registry-url", A)
    monkeypatch.setenv("A8_REGISTRY_URL", B)
    capsys.readouterr()
    assert main(["info", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["A8_CONTROLLER_URL"], shown["A8_REGISTRY_URL"]) == (A, B)


async def test_a_command_goes_where_the_context_says(
    a8ctl: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a8ctl.server.answers[("GET", "/v1/rules")] = {"rules": [], "revision": 0}
    put("one", "--controller-url", a8ctl.server.url, "--controller-token", "abc")
    import asyncio

    assert await asyncio.to_thread(main, ["rule-get", "--context", "one"]) == 0
    assert a8ctl.server.seen[0].authorization == "Bearer abc"


def test_what_the_environment_says_is_kept_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A8_CONTROLLER_TOKEN", "env")
    put("one", "--controller-url", A)
    put("two", "--controller-url", A, "--from-environment")
    found = read().contexts
    assert "controller_token" not in found["one"]
    assert found["two"]["controller_token"] == "env"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["a b", "--controller-url", A], "is no name for a context"),
        (["one"], "nothing to keep"),
        (["one", "--controller-url", "ftp://x"], "is not allowed"),
        (["one", "--controller-token", "a b"], "is not allowed"),
    ],
)
def test_what_cannot_be_a_context(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["context-set", *argv]) == 2
    assert words in capsys.readouterr().err


def test_a_context_in_use_that_is_broken_can_be_replaced(file: Path) -> None:
    put("one", "--controller-url", A)
    file.write_text("current: one\ncontexts: {one: {controller-url: nonsense}}\n")
    assert main(["rule-get"]) == 2
    put("one", "--controller-url", B)
    assert target_from({}).controller_url == B
