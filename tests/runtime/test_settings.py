"""Settings: precedence, one-line refusals, help."""

import dataclasses
from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import BOOLEAN, PORT, TEXT, Kind, duration
from amalgam8.runtime.settings import HelpWanted, describe, load, setting

NAMES = Kind[tuple[str, ...]]("names", lambda text: tuple(text.split(",")), ",".join, many=True)
REFUSED = {"dns": "DNS is not supported yet", "old.poll": "nothing is polled"}


@dataclasses.dataclass(frozen=True)
class Example:
    http_port: int = setting(80, "The port.", PORT, yaml="proxy.port")
    verbose: bool = setting(False, "Say more.", BOOLEAN)
    secret_token: str = setting("", "The secret.", duration(0, 1), secret=True)
    names: tuple[str, ...] = setting((), "Some names.", NAMES)
    name: str = setting("x", "A name.", TEXT, yaml="service.name")


def read(*argv: str, command: str = "", **environ: str) -> Example:
    return load(Example, "a8x", argv, environ, refused=REFUSED, command=command)[0]


def written(folder: Path, text: str) -> str:
    (folder / "a8.yaml").write_text(text)
    return f"--config={folder}/a8.yaml"


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = written(tmp_path, "http_port: 1\n")
    assert read().http_port == 80
    assert read(file).http_port == 1
    assert read(file, A8_HTTP_PORT="2").http_port == 2
    assert read(file, "--http_port=3", A8_HTTP_PORT="2").http_port == 3
    assert read(A8_CONFIG=f"{tmp_path}/a8.yaml").http_port == 1


@pytest.mark.parametrize(
    "argv", [("--http-port", "5"), ("--http_port=5",), ("--HTTP-Port=5",), ("-http-port", "5")]
)
def test_spellings_of_flags(argv: tuple[str, ...]) -> None:
    assert read(*argv).http_port == 5


def test_a_switch_needs_no_value_and_takes_none() -> None:
    assert read("--verbose").verbose
    assert not read("--verbose=false").verbose
    assert load(Example, "a8x", ["--verbose", "false"], {}, command="[command]")[1] == ("false",)


def test_a_repeatable_flag_adds_up() -> None:
    assert read("--names=a", "--names", "b,c").names == ("a", "b", "c")


def test_the_command_starts_at_the_first_argument_that_is_no_flag() -> None:
    def command(*argv: str) -> tuple[str, ...]:
        return load(Example, "a8x", argv, {}, command="[command]")[1]

    assert command("--http-port", "5", "run", "--verbose", "-x") == ("run", "--verbose", "-x")
    assert command("--verbose", "--", "--odd", "x") == ("--odd", "x")
    assert command() == ()
    with pytest.raises(InvalidSetting, match="'run': unexpected argument"):
        read("run")


def test_files_nest(tmp_path: Path) -> None:
    found = read(written(tmp_path, "proxy: {port: 7}\nservice: {name: n}\nnames: [a, 1]\nverbose: yes\n"))
    assert (found.http_port, found.name, found.names, found.verbose) == (7, "n", ("a", "1"), True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense: 1", "nonsense: no such setting"),
        ("proxy: {prot: 1}", "proxy.prot: no such setting"),
        ("- a", "expected settings as 'name: value'"),
        ("a: [", "line 1, column"),
        ("http_port: {a: 1}", "http_port.a: no such setting|expected a single value"),
        ("http_port: many", "'many' is not allowed"),
        ("dns: true", "dns: DNS is not supported yet"),
        ("dns: [{any: shape}]", "dns: DNS is not supported yet"),
        ("old: {poll: 5s}", "old.poll: nothing is polled"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as refused:
        read(written(tmp_path, text))
    assert "a8.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"cannot read .*: No such file"):
        read(f"--config={tmp_path}/none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidSetting, match="not UTF-8"):
        read(f"--config={tmp_path}/binary")
    assert read(written(tmp_path, "")) == Example()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--nothing",), "--nothing: no such flag"),
        (("--http-port",), "--http_port: needs a value"),
        (("--http-port=x",), "--http_port: 'x' is not allowed; allowed: a whole number from 1 to 65535"),
        (("--verbose=x",), "allowed: true or false"),
        (("--dns",), "--dns: DNS is not supported yet"),
        (("--dns=1",), "--dns: DNS is not supported yet"),
    ],
)
def test_flags_that_are_refused(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        read(*argv)
    assert words in str(refused.value)


def test_the_environment_is_named_too() -> None:
    with pytest.raises(InvalidSetting, match="A8_HTTP_PORT: 'x' is not allowed"):
        read(A8_HTTP_PORT="x")
    with pytest.raises(InvalidSetting, match="A8_DNS: DNS is not supported yet"):
        read(A8_DNS="yes")


def test_what_is_not_built_may_be_off(tmp_path: Path) -> None:
    assert read(written(tmp_path, "dns: false\nold: {poll: }\n"), A8_DNS="false") == Example()


def test_variables_of_others_are_ignored() -> None:
    assert read(A8_WHATEVER="x", HTTP_PORT="x") == Example()


def test_a_secret_is_not_shown() -> None:
    with pytest.raises(InvalidSetting) as refused:
        read(A8_SECRET_TOKEN="hunter2")
    assert "hunter2" not in str(refused.value)
    assert "(not shown)" in str(refused.value)


def test_help_lists_everything() -> None:
    with pytest.raises(HelpWanted) as wanted:
        read("--help", "--nonsense")
    for item in describe(Example):
        assert f"{item.flag}  ({item.env})" in wanted.value.text
        assert item.help in wanted.value.text
    assert "Default: 80." in wanted.value.text
