"""Chooses catalogues by name and hands them their options.

A choice is ``name`` or ``name?option=value&option=value``, percent-encoded like the query of a URL; an option
given twice has both values. Names are the built-in ones and those of the entry-point group
``amalgam8.catalogs``, each of which leads to a function from options to a Catalog. Nothing of a catalogue is
imported before it is chosen. Refuses to show values: they may be secrets.
"""

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from amalgam8.catalogs.catalog import Catalog
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.settings import Spec

GROUP = "amalgam8.catalogs"

BUILT_IN = {
    "file": "amalgam8.catalogs.file:open_catalog",
    "kubernetes": "amalgam8.catalogs.kubernetes.catalog:open_catalog",
    "eureka": "amalgam8.catalogs.eureka:open_catalog",
}

T = TypeVar("T")

Options = Mapping[str, str]
Opener = Callable[[Options], Catalog]
"""What an entry point leads to. Raises InvalidSetting for options that it cannot take."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A catalogue by name, and its options as texts; several values of one are joined by commas."""

    name: str
    options: Options = dataclasses.field(default_factory=dict, repr=False)


def parse_choice(text: str) -> Choice:
    """Read ``name?option=value&option=value``.

    Raises:
        InvalidSetting: no name, or options of another form.
    """
    name, mark, query = text.strip().partition("?")
    if not name:
        raise InvalidSetting("catalog: a name is missing; write name?option=value&option=value")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if mark and query else []
    except ValueError:
        raise InvalidSetting(f"catalog {name}: options must be written option=value&option=value") from None
    options: dict[str, str] = {}
    for key, value in pairs:
        options[key] = f"{options[key]},{value}" if key in options else value
    return Choice(name, options)


def choices(
    *,
    fs_catalog: str = "",
    k8s_url: str = "",
    k8s_token: str = "",
    eureka_url: Sequence[str] = (),
    catalog: Iterable[str] = (),
) -> list[Choice]:
    """The catalogues that the registry's settings ask for; an earlier one wins where ids meet.

    Raises:
        InvalidSetting: see parse_choice; or a token for a Kubernetes that is not named.
    """
    found = []
    if fs_catalog:
        found.append(Choice("file", {"directory": fs_catalog}))
    if k8s_url:
        found.append(Choice("kubernetes", {"url": k8s_url} | ({"token": k8s_token} if k8s_token else {})))
    elif k8s_token:
        raise InvalidSetting("k8s_token: needs k8s_url")
    if eureka_url:
        found.append(Choice("eureka", {"url": ",".join(eureka_url)}))
    return found + [parse_choice(text) for text in catalog]


def open_catalogs(chosen: Iterable[Choice]) -> list[Catalog]:
    """Make each; nothing is contacted yet.

    Raises:
        InvalidSetting: an unknown name, a part that is not installed, or options that it refuses.
    """
    return [_opener(choice.name)(choice.options) for choice in chosen]


def read_options(kind: type[T], name: str, options: Options) -> T:
    """Fill a dataclass, whose fields are made by ``runtime.settings.setting``, from options.

    A field whose default is ``...`` must be given.

    Raises:
        InvalidSetting: an option that is missing, unknown or wrong; names it and what is allowed.
    """
    specs: dict[str, tuple[Any, Spec]] = {
        field.name: (field.default, field.metadata["a8"])
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # any dataclass
    }
    values: dict[str, Any] = {}
    for key, text in options.items():
        if key not in specs:
            raise InvalidSetting(f"catalog {name}: {key[:64]!r} is no option; there are {', '.join(specs)}")
        spec = specs[key][1]
        try:
            values[key] = spec.kind.read(text)
        except ValueError as error:
            shown = "the value" if spec.secret else repr(text)
            why = f" ({error})" if str(error) and not spec.secret else ""
            raise InvalidSetting(
                f"catalog {name}: {key}: {shown} is not allowed; allowed: {spec.kind.allowed}{why}"
            ) from None
    for key, (default, spec) in specs.items():
        if default is ... and key not in values:
            raise InvalidSetting(f"catalog {name}: {key} is missing; it is {spec.kind.allowed}")
    return kind(**values)


def _opener(name: str) -> Opener:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        opener: Opener = getattr(importlib.import_module(module), attribute)
        return opener
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted({*BUILT_IN, *found}))
        raise InvalidSetting(f"catalog: there is no catalogue named {name[:64]!r}; there are {known}")
    try:
        loaded: Opener = found[name].load()
    except (ImportError, AttributeError) as error:
        raise InvalidSetting(f"catalog {name}: cannot be loaded: {error}") from None
    return loaded
