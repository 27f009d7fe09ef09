import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.registry.registration import Ttls
from amalgam8.registry.settings import REFUSED, RegistrySettings
from amalgam8.runtime.settings import load


def read(*argv: str, **environ: str) -> RegistrySettings:
    return load(RegistrySettings, "a8registry", argv, environ, refused=REFUSED)[0]


def test_defaults_are_those_of_the_original() -> None:
    found = read()
    assert (found.api_port, found.listen_host, found.namespace_capacity) == (8080, "127.0.0.1", -1)
    assert found.ttls == Ttls(10, 30, 600)
    assert (found.log_level, found.log_format) == ("info", "text")


def test_flag_beats_environment() -> None:
    found = read("--default-ttl", "1m", A8_DEFAULT_TTL="2m", A8_MAX_TTL="1h", A8_NAMESPACE_CAPACITY="5")
    assert found.ttls == Ttls(10, 60, 3600)
    assert found.namespace_capacity == 5


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ["--default-ttl", "9s"],
            "default_ttl: 9s is not allowed; allowed: from min_ttl, 10s, to max_ttl, 10m",
        ),
        (["--max-ttl", "29s"], "default_ttl: 30s"),
        (["--min-ttl", "31s"], "default_ttl: 30s"),
        (["--min-ttl", "1500ms"], "min_ttl: 1.5s is not a whole number"),
        (["--min-ttl", "0"], "--min_ttl: '0' is not allowed"),
        (["--namespace-capacity", "-2"], "--namespace_capacity: '-2' is not allowed"),
        (["--store", "redis"], "store_address: missing"),
        (["--store", "redis", "--store-address", "http://x"], "allowed: host:port"),
        (["--store-address", "x"], "for store redis only"),
        (["--store", "disk"], "allowed: inmem"),
        (["--auth-mode", "oauth"], "none, trusted, jwt, or several"),
        (["--api-port", "65536"], "--api_port: '65536' is not allowed"),
        (["--eureka-publish"], "eureka_url: missing; eureka_publish needs it"),
        (["--eureka-publish", "--eureka-url", ""], "eureka_url: missing"),
        (["--eureka-publish=perhaps"], "allowed: true or false"),
        (["--color", "red"], "no such flag"),
    ],
)
def test_a_wrong_value_is_named(argv: list[str], says: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read(*argv)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_in_the_wrong_place_is_not_repeated() -> None:
    with pytest.raises(InvalidSetting, match="store_password") as caught:
        read("--store", "redis", A8_STORE_ADDRESS="redis://:hush@store")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", REFUSED)
def test_what_comes_later_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(InvalidSetting, match="is not supported yet"):
        read(f"--{name.replace('_', '-')}", "x")
    with pytest.raises(InvalidSetting, match=f"A8_{name.upper()}.*is not supported yet"):
        read(**{f"A8_{name.upper()}": "x"})
