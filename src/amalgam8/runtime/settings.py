"""Settings, once for all daemons: flag > ``A8_*`` environment > YAML file > default.

A daemon declares a dataclass whose fields are made by ``setting``. ``load`` fills it and ``describe``
lists it for ``--help`` and the reference. Each value is read by a *kind* (``runtime.kinds``) that says
what is allowed. Refuses to guess: a wrong value, an unknown flag or file entry is an InvalidSetting that
names setting, value and what is allowed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import BOOLEAN, TEXT, Kind

T = TypeVar("T")

PREFIX = "A8_"
FILE_LIMIT = 1_000_000
_OFF = frozenset({"", "false", "no", "off", "0"})
"""Texts that ask for nothing: a setting that is not built may be given like this."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of one setting beside its name."""

    help: str
    kind: Kind[Any]
    yaml: str
    secret: bool


# ``help`` is the field's own word, as in argparse.
def setting(default: Any, help: str, kind: Kind[Any] = TEXT, *, yaml: str = "", secret: bool = False) -> Any:  # noqa: A002 - the word of argparse and typer
    """Declare a dataclass field that is a setting.

    ``yaml`` is a dotted path at which the file may also give it, beside its own name.
    """
    spec = Spec(help, kind, yaml, secret)
    return dataclasses.field(default=default, metadata={"a8": spec})


@dataclasses.dataclass(frozen=True)
class Described:
    """One setting as people are shown it."""

    name: str
    flag: str
    env: str
    yaml: str
    default: str
    allowed: str
    help: str


def describe(cls: type[Any]) -> list[Described]:
    """Every setting of a settings class, in order."""
    return [
        Described(
            name=name,
            flag=f"--{name}",
            env=PREFIX + name.upper(),
            yaml=spec.yaml or name,
            default=spec.kind.show(field.default),
            allowed=spec.kind.allowed,
            help=spec.help,
        )
        for name, (field, spec) in _specs(cls).items()
    ]


class HelpWanted(Exception):
    """``--help`` was given; ``text`` answers it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclasses.dataclass(frozen=True)
class Loaded:
    """``values`` by name, and the ``command``: arguments from the first one on that is no flag."""

    values: dict[str, Any]
    command: tuple[str, ...] = ()


def load(
    cls: type[T],
    program: str,
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    refused: Mapping[str, str] | None = None,
    command: str = "",
) -> tuple[T, tuple[str, ...]]:
    """Read all sources and make the settings object; returns it and the trailing command.

    ``refused`` maps names of settings that are known but not built to a sentence. ``command`` is the
    placeholder for trailing arguments, empty where there are none.

    Raises:
        InvalidSetting: with one line about the first wrong value.
        HelpWanted: ``--help`` stands among the flags.
    """
    specs = _specs(cls)
    known = {**dict.fromkeys(specs, ""), "config": "", **(refused or {})}
    flags, trailing = _flags(argv, specs, known, bool(command))
    if "help" in flags:
        raise HelpWanted(usage(cls, program, command))
    path = flags.pop("config", "") or environ.get(PREFIX + "CONFIG", "")
    from_file = _file(path, specs, known) if path else {}
    values: dict[str, Any] = {}
    for name in known:
        if name == "config":
            continue
        for source, text in (
            (f"--{name}", flags.get(name)),
            (PREFIX + name.upper(), environ.get(PREFIX + name.upper())),
            (f"{path}: {name}", from_file.get(name)),
        ):
            if text is None or (known[name] and text.strip().lower() in _OFF):
                continue
            if known[name]:
                raise InvalidSetting(f"{source}: {known[name]}")
            values[name] = _read(specs[name][1], source, text)
            break
    return cls(**values), trailing


def usage(cls: type[Any], program: str, command: str = "") -> str:
    """The text of ``--help``."""
    lines = [f"Usage: {program} [flags]{' ' + command if command else ''}", ""]
    lines += [
        "Each setting may be a flag, an environment variable or an entry of the file named by --config.",
        "",
    ]
    for item in describe(cls):
        lines.append(f"  {item.flag}  ({item.env})")
        lines.append(f"      {item.help} Allowed: {item.allowed}. Default: {item.default or 'none'}.")
    lines += [
        "  --config  (A8_CONFIG)",
        "      A YAML file of settings.",
        "  --help",
        "      Show this text.",
    ]
    return "\n".join(lines)


def _specs(cls: type[Any]) -> dict[str, tuple[dataclasses.Field[Any], Spec]]:
    return {field.name: (field, field.metadata["a8"]) for field in dataclasses.fields(cls)}


def _read(spec: Spec, source: str, text: str) -> Any:
    try:
        return spec.kind.read(text)
    except ValueError as error:
        shown = "(not shown)" if spec.secret else repr(text)
        why = f" ({error})" if str(error) else ""
        raise InvalidSetting(f"{source}: {shown} is not allowed; allowed: {spec.kind.allowed}{why}") from None


def _flags(
    argv: Sequence[str],
    specs: Mapping[str, tuple[dataclasses.Field[Any], Spec]],
    known: Mapping[str, str],
    trailing: bool,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Flags by name up to the first argument that is none; ``-`` and ``_`` are the same in their names."""
    flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-") or argument == "-" or argument == "--":
            command = rest if argument == "--" else [argument, *rest]
            if command and not trailing:
                raise InvalidSetting(f"{command[0]!r}: unexpected argument; see --help")
            return flags, tuple(command)
        name, equals, value = argument.lstrip("-").partition("=")
        name = name.replace("-", "_").lower()
        if name in ("help", "h"):
            return {"help": ""}, ()
        if name not in known:
            raise InvalidSetting(f"{argument.partition('=')[0]}: no such flag; see --help")
        if not equals:
            if known[name]:
                raise InvalidSetting(f"--{name}: {known[name]}")
            if name in specs and specs[name][1].kind is BOOLEAN:
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise InvalidSetting(f"--{name}: needs a value")
        repeatable = name in specs and specs[name][1].kind.many
        flags[name] = f"{flags[name]},{value}" if repeatable and name in flags else value
    return flags, ()


def _file(path: str, specs: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    """Entries of the YAML file as texts by setting name."""
    try:
        if Path(path).stat().st_size > FILE_LIMIT:
            raise InvalidSetting(f"{path}: larger than {FILE_LIMIT} bytes")
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidSetting(f"config: cannot read {path}: {reason}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise InvalidSetting(f"{path}:{where} {problem}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidSetting(f"{path}: expected settings as 'name: value'")
    names = {
        **{name: name for name in known},
        **{spec.yaml: name for name, (_, spec) in specs.items() if spec.yaml},
    }
    kinds = {name: spec.kind for name, (_, spec) in specs.items()}
    found: dict[str, str] = {}
    for key, value in _leaves(document, names):
        name = names.get(key.replace("-", "_"))
        if name is None:
            raise InvalidSetting(f"{path}: {key}: no such setting")
        # What is refused anyway may have any shape; what it says then only has to be told from "off".
        found[name] = str(value or "") if known[name] else _as_text(path, key, value, kinds.get(name))
    return found


def _leaves(document: Mapping[Any, Any], names: Mapping[str, str], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        path = f"{prefix}{key}"
        below = any(name.startswith(f"{path}.") for name in names)
        nested = isinstance(value, Mapping) and (below or path not in names)
        found += _leaves(value, names, f"{path}.") if nested else [(path, value)]
    return found


def _as_text(path: str, key: str, value: Any, kind: Kind[Any] | None) -> str:
    if kind is not None and kind.entry is not None and isinstance(value, list):
        try:
            value = [kind.entry(item) if isinstance(item, Mapping) else item for item in value]
        except ValueError as error:
            raise InvalidSetting(f"{path}: {key}: {error}") from None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
        return ",".join(str(item) for item in value)
    if value is None:
        return ""
    raise InvalidSetting(f"{path}: {key}: expected a single value or a list of them")
