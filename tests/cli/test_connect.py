import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from amalgam8.cli.connect import Target, curl, target_from
from amalgam8.cli.context_file import Contexts
from amalgam8.cli.main import main
from amalgam8.model.errors import InvalidSetting
from tests.web.certificates import made
from tests.web.keys import SECRET

A = "http://a.example:1"
B = "http://b.example:2"


def test_check_makes_urls_normal() -> None:
    target = Target("http://a:1/ ", "t", "https://b/x/", "").check()
    assert (target.controller_url, target.registry_url) == ("http://a:1", "https://b/x")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (Target(controller_url="localhost"), "A8_CONTROLLER_URL"),
        (Target(registry_url="http://"), "A8_REGISTRY_URL"),
        (Target(registry_url="http://a:99999"), "A8_REGISTRY_URL"),
        (Target(controller_token="a b"), "A8_CONTROLLER_TOKEN"),
        (Target(registry_token="a\n"), "A8_REGISTRY_TOKEN"),
    ],
)
def test_check_names_what_is_wrong(target: Target, named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        target.check()


def test_curl_survives_a_shell() -> None:
    line = curl("PUT", "http://a/v1/rules", {"a": "it's $HOME"}, [("id", "x&y")], "A8_CONTROLLER_TOKEN")
    assert shlex.split(line) == [
        *("curl", "-X", "PUT", "http://a/v1/rules?id=x%26y"),
        *("-H", "Authorization: Bearer $A8_CONTROLLER_TOKEN"),
        *("-H", "Content-Type: application/json", "--data", '{"a":"it\'s $HOME"}'),
    ]


def test_https_is_checked_against_the_given_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Served by a controller in a process of its own, by TLS and with tokens."""
    files = made(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("A8_")}
    argv = ["--api-port=0", "--database-type=memory", f"--tls-cert={files.cert}", f"--tls-key={files.key}"]
    argv += [f"--tls-client-ca={files.ca}", "--auth-mode=jwt", "--require-https"]
    with subprocess.Popen(
        [sys.executable, "-c", "from amalgam8.controller.main import main; raise SystemExit(main())", *argv],
        env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "A8_JWT_SECRET": SECRET},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"port=(\d+)", line := process.stderr.readline())
            assert found, line
            monkeypatch.setenv("A8_CONTROLLER_URL", f"https://localhost:{found[1]}")
            assert main(["token", "--tenant", "blue", "--secret-file", str(secret)]) == 0
            monkeypatch.setenv("A8_CONTROLLER_TOKEN", capsys.readouterr().out.strip())
            assert main(["rule-get"]) == 5
            assert "certificate verify failed" in capsys.readouterr().err
            monkeypatch.setenv("A8_CA_CERT", str(files.ca))
            assert main(["rule-get"]) == 5
            client = ["--client-cert", str(files.client_cert), "--client-key", str(files.client_key)]
            assert main(["rule-get", *client, "-o", "json"]) == 0
            assert '"revision": 0' in capsys.readouterr().out
            assert main(["rule-get", *client, "--controller-token", "x"]) == 1
            assert main(["rule-get", "--ca-cert", "/no/such"]) == 2
            assert "ca_cert: cannot read /no/such" in capsys.readouterr().err
        finally:
            process.kill()


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
