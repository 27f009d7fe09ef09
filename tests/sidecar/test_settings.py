"""The sidecar's settings: what goes together, what is refused and how."""

from pathlib import Path

import pytest

from amalgam8.model.caller import Caller
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.settings import describe, load
from amalgam8.sidecar.settings import REFUSED, Settings, checked

REGISTRY, CONTROLLER = "--registry-url=http://localhost:1", "--controller-url=http://localhost:2"


def read(*argv: str, **environ: str) -> Settings:
    settings, command = load(Settings, "a8sidecar", argv, environ, refused=REFUSED, command="[command...]")
    return checked(settings, command)


def test_service_and_tags_from_the_environment() -> None:
    settings = read("true", A8_SERVICE="reviews:v2,version=v2")
    assert settings.own_service == Caller("reviews", ("v2", "version=v2"))


def test_the_original_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a8.yaml"
    file.write_text(
        "service:\n  name: reviews\n  tags: [v2, canary]\nregister: true\nproxy: true\ndns: false\n"
        "endpoint: {host: 10.0.0.1, port: 9080, type: https}\n"
        "registry: {url: 'http://r:1', token: t1}\ncontroller: {url: 'http://c:2', token: t2}\n"
        "proxy_config: {http_listener_port: 7000, proxy_binary_path: /bin/envoy, tls: false}\n"
        "healthchecks: []\n"
    )
    settings = read("--config", str(file))
    assert settings.own_service == Caller("reviews", ("canary", "v2"))
    assert (settings.endpoint_host, settings.endpoint_port, settings.endpoint_type) == (
        "10.0.0.1",
        9080,
        "https",
    )
    assert (settings.registry_url, settings.registry_token) == ("http://r:1", "t1")
    assert (settings.controller_url, settings.controller_token) == ("http://c:2", "t2")
    assert (settings.http_listener_port, settings.proxy_binary) == (7000, Path("/bin/envoy"))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "nothing to do: give --register, --proxy or a command"),
        (("--register",), "service: missing"),
        (("--register", "--service=a", REGISTRY), "endpoint_port: missing"),
        (("--register", "--service=a", "--endpoint-port=80"), "registry_url: missing"),
        (("--proxy",), "registry_url: missing"),
        (("--proxy", REGISTRY), "controller_url: missing"),
        (("--proxy", REGISTRY, CONTROLLER, "--admin-port=6379"), "admin_port: 6379 is http_listener_port"),
        (("--service=a/b",), "holds a slash"),
        (("--service=a:,b",), "an empty tag"),
        (("--endpoint-port=65536",), "a whole number from 1 to 65535"),
        (("--endpoint-type=ftp",), "http or https or tcp or udp or user"),
        (("--registry-url=localhost:80",), "an http or https URL"),
        (("--proxy-adapter=haproxy",), "envoy or nginx"),
        (("--discovery-adapter=kubernetes",), "kubernetes is not supported yet"),
        (("--discovery-adapter=eureka",), "eureka is not supported yet"),
        (("--rules-adapter=kubernetes",), "kubernetes is not supported yet"),
        (("--drain=3s",), "a duration from 0s to 2s"),
    ],
)
def test_refusals_are_one_sentence(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        read(*argv)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_built_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(InvalidSetting, match=name) as refused:
        read(f"--{name}=3", "true")
    assert REFUSED[name] in str(refused.value)


def test_refused_from_the_environment_too_unless_off() -> None:
    with pytest.raises(InvalidSetting, match="A8_DNS: the DNS server is not supported yet"):
        read("true", A8_DNS="true")
    read("true", A8_DNS="false", A8_SUPERVISE="false")


def test_variables_of_other_daemons_are_ignored() -> None:
    read("true", A8_DATABASE_TYPE="sqlite", A8_CONTROLLER_PORT="x", A8_ANYTHING="else")


def test_register_needs_no_controller() -> None:
    read("--register", "--service=a", "--endpoint-port=80", REGISTRY)


def test_tokens_are_not_shown() -> None:
    with pytest.raises(InvalidSetting) as refused:
        read("--registry-token=secret\n")
    assert "secret" not in str(refused.value)


def test_state_folders_differ_by_service_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    proxy = ("--proxy", REGISTRY, CONTROLLER)
    folders = [
        read("--service=a", *proxy).state_folder(),
        read("--service=b", *proxy).state_folder(),
        read("--service=a", "--http-listener-port=6380", *proxy).state_folder(),
        read(*proxy).state_folder(),
        read("true").state_folder(),
        read("--admin-port=6117", "true").state_folder(),
    ]
    assert len(set(folders)) == len(folders)
    assert folders[0] == Path("/state/amalgam8/sidecar/a-6379")
    assert read("--state-dir=/x", "true").state_folder() == Path("/x")


def test_every_setting_is_described() -> None:
    for item in describe(Settings):
        assert item.help.endswith("."), item.name
        assert "not shown" not in item.default
