"""Names for meshes: what is kept, who can read it, and what wins."""

import json
import stat
from pathlib import Path

import pytest

from amalgam8.cli import contexts
from amalgam8.cli.contexts import Contexts
from amalgam8.cli.main import main, target_from
from amalgam8.model.errors import InvalidSetting
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


def test_a_token_goes_to_its_own_address_only() -> None:
    found = Contexts("one", {"one": {"controller_url": A, "controller_token": "t", "registry_token": "r"}})

    def token(**given: str) -> str:
        return target_from(given, found).controller_token

    assert token() == "t"
    assert token(controller_url=A) == "t"
    assert token(controller_url=B) == ""
    assert token(controller_url=B, controller_token="x") == "x"
    assert token(controller_token="x") == "x"
    assert target_from({}, found).registry_token == "r"
    assert target_from({"registry_url": B}, found).registry_token == ""


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
    found = contexts.read().contexts
    assert "controller_token" not in found["one"]
    assert found["two"]["controller_token"] == "env"


def test_a_file_that_others_can_read_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("one", "--controller-url", A)
    file.chmod(0o644)
    assert target_from({}).controller_url == A  # no token in it
    file.chmod(0o600)
    put("one", "--controller-token", "geheim")
    file.chmod(0o640)
    assert main(["rule-get"]) == 2
    shown = capsys.readouterr().err
    assert f"chmod 600 {file}" in shown
    assert "geheim" not in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("contexts: [", "line 2, column 1"),
        ("- a", "something else than current and contexts"),
        ("context: {}", "something else than current and contexts"),
        (
            "contexts: {one: {controler-url: x}}",
            "one: controler-url: unknown member; allowed are controller-url",
        ),
        ("contexts: {one: {controller-url: 7}}", "one: controller-url: expected text"),
        ("contexts: {one: x}", "one: expected members"),
        ("current: two\ncontexts: {one: {}}", "current: 'two' is none of its contexts"),
    ],
)
def test_a_file_that_says_something_else(
    file: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert main(["info"]) == 2
    assert words in capsys.readouterr().err


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


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for base in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", base)
        assert contexts.path() == tmp_path / ".config" / "a8" / "config.yaml"


def test_a_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/nothing")
    with pytest.raises(InvalidSetting, match="cannot write /proc/nothing"):
        contexts.write(Contexts())
