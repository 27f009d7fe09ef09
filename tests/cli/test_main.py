import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.responses import Response

from amalgam8.cli.commands import COMMANDS
from amalgam8.cli.main import hoist, main
from amalgam8.model.errors import StoreUnavailable
from tests.cli.standin import Cli
from tests.conftest import free_port


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: a8ctl {name}" in shown
    assert f"a8ctl {name}" in shown.split("Examples:")[1]
    assert main([name.replace("-", "_"), "-h"]) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["rule-gett"], "Did you mean 'rule-get'"),
        (["info", "--frob"], "--frob"),
        (["route-list", "-o", "xml"], "'xml' is not one of 'table', 'json', 'yaml'"),
        (["rule-create", "-f"], "requires an argument"),
        (["info", "extra"], "extra"),
        (["recipe-run"], "recipe-run is not supported yet"),
        (["rule_set"], "rule_set is not supported yet"),
        (["--gremlin_url", "http://x", "info"], "not supported yet"),
        (
            ["--controller_url", "123", "route-list"],
            "--controller-url (A8_CONTROLLER_URL): '123' is not allowed",
        ),
        (["--controller_url=", "route-list"], "--controller-url"),
        (["info", "--registry-url", "ftp://x"], "--registry-url (A8_REGISTRY_URL): 'ftp://x'"),
        (["up"], "give -f mesh.yaml or --demo"),
        (["up", "--demo", "bookinfo", "--proxy", "haproxy"], "envoy or nginx"),
        (["up", "--demo", "bookinfo", "--proxy", "squid"], "'squid' is not allowed; allowed: envoy"),
        (["up", "--demo", "bookinfo", "--gateway-port", "70000"], "--gateway-port"),
    ],
)
def test_mistakes_of_usage_are_one_line_and_code_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("a8ctl: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_a_token_that_cannot_be_sent_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A8_CONTROLLER_TOKEN", "gehéim")
    assert main(["rule-get"]) == 2
    shown = capsys.readouterr().err
    assert "A8_CONTROLLER_TOKEN" in shown
    assert "gehéim" not in shown


def test_nothing_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: a8ctl" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("a8ctl ")


@pytest.mark.parametrize("command", ["rule-get", "route-list", "service-list", "sidecar-list", "action-list"])
def test_nobody_there_is_code_5(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main([command, "--controller_url", url, "--registry_url", url]) == 5
    captured = capsys.readouterr()
    assert captured.err.startswith(f"a8ctl: {url} cannot be reached")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (StoreUnavailable("the store is away"), 5),
        (Response("<html>", 404), 1),
        (Response("<html>", 502), 5),
        (Response("<html>", 200), 5),
    ],
)
async def test_answers_of_other_kinds(a8ctl: Cli, answer: object, code: int) -> None:
    a8ctl.server.answers[("GET", "/v1/rules")] = answer
    ran = await a8ctl("rule-get")
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)


async def test_settings_from_the_environment(a8ctl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    a8ctl.server.answers[("GET", "/v1/rules")] = {"rules": [], "revision": 0}
    monkeypatch.setenv("A8_CONTROLLER_TOKEN", "abc")
    assert (await a8ctl("rule-get")).code == 0
    assert (await a8ctl("rule-get", "--a8-controller-token", "flag")).code == 0
    assert [seen.authorization for seen in a8ctl.server.seen] == ["Bearer abc", "Bearer flag"]


async def test_debug_shows_curl_without_token(
    a8ctl: Cli, type_in: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A8_DEBUG", "1")
    a8ctl.server.answers[("POST", "/v1/rules")] = {"ids": ["a"]}
    type_in(b'[{"id": "it\'s"}]')
    ran = await a8ctl("rule-create", "--controller_token", "secret")
    assert ran.code == 0
    assert f"curl -X POST {a8ctl.server.url}/v1/rules" in ran.err
    assert '-H "Authorization: Bearer $A8_CONTROLLER_TOKEN"' in ran.err
    assert "secret" not in ran.err
    line = ran.err.splitlines()[-1]
    assert shlex.split(line)[-1] == '{"rules":[{"id":"it\'s"}]}'


def test_hoist() -> None:
    assert hoist(["rule-get", "--debug", "-i", "x", "--a8_controller_url", "u"]) == [
        "--debug",
        "--a8_controller_url",
        "u",
        "rule-get",
        "-i",
        "x",
    ]
    assert hoist(["rule-get", "--", "--debug"]) == ["rule-get", "--", "--debug"]


def test_the_command_as_a_process(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "amalgam8.cli.main"]
    broken = tmp_path / "rules.yaml"
    broken.write_text("rules:\n  - id: [\n")
    ran = subprocess.run(
        [*argv, "rule-create", "-f", str(broken)], capture_output=True, text=True, timeout=30
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"a8ctl: {broken}: line 3, column 1: ")
    assert ran.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "amalgam8.cli.main", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) in (0, 1)
    assert complaint == b""


def test_interrupted_is_code_130() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(30)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "amalgam8.cli.main", "--controller-url", url, "rule-get"],
            stderr=subprocess.PIPE,
        )
        connection, _ = listener.accept()
        connection.recv(1)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
        connection.close()
    assert process.returncode == 130
    assert b"Traceback" not in complaint


def test_help_needs_no_http_client() -> None:
    code = (
        "import sys; from amalgam8.cli.main import main; main(['--help']); "
        "sys.exit(any(name in sys.modules for name in ('httpcore', 'pydantic', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30).returncode == 0
