"""Instances from files: ``<directory>/<tenant>.yaml`` or ``.json``, each ``{"instances": [registration]}``.

The directory is looked at twice a second. A file that cannot be read keeps what was known of its tenant,
and the failure says where it is broken; a file that is gone takes its instances with it. They carry the tag
``filesystem`` and never expire. Refuses aliases in YAML, which can make a small file huge.
"""

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from amalgam8.catalogs.catalog import NEVER_HEARD, Catalog, Found, Partial
from amalgam8.catalogs.loader import Options, read_options
from amalgam8.catalogs.refresh import Refresh
from amalgam8.model.errors import A8Error, InvalidInstance
from amalgam8.model.instance import Endpoint, Instance, instance_id
from amalgam8.model.instance_check import check_registration
from amalgam8.runtime.kinds import PATH, duration
from amalgam8.runtime.settings import setting

PERIOD = 0.5
FILE_LIMIT = 16 * 1024 * 1024
FILES_LIMIT = 10_000
SUFFIXES = (".yaml", ".yml", ".json")
"""Of several files for one tenant the first of these counts."""
TAG = "filesystem"

_SETTLED_AFTER = 1.0
"""Seconds after which another change of the same file gets another time stamp on any file system."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclasses.dataclass(frozen=True)
class FileOptions:
    directory: Path = setting(  # noqa: RUF009 - declares an option
        ..., "Directory with a file for each tenant.", PATH
    )
    period: float = setting(PERIOD, "Time between looks.", duration(0.01, 3600))


def open_catalog(options: Options) -> Catalog:
    """The catalogue ``file``.

    Raises:
        InvalidSetting: an option that it does not know, or no directory.
    """
    chosen = read_options(FileOptions, "file", options)
    return Refresh("file", Files(chosen.directory).fetch, period=chosen.period)


class BrokenFile(A8Error):
    """A file that cannot be taken; the text says where and why."""

    code = "broken_file"


class _Body(msgspec.Struct):
    """A registration; ``ttl`` may be there and means nothing."""

    service_name: str | None = None
    endpoint: Endpoint | None = None
    ttl: int | None = None
    status: str | None = None
    tags: tuple[str, ...] | None = None
    metadata: Any = msgspec.UNSET


class _Known(msgspec.Struct, frozen=True):
    """What was read of a file; None in place of the signature: look again next time."""

    signature: tuple[int, int, int] | None
    instances: tuple[Instance, ...]
    problem: str


class Files:
    """What the files of a directory say; only files that have changed are read again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, _Known] = {}

    async def fetch(self) -> Found:
        """Everything, by tenant.

        Raises:
            Partial: a file is broken; with what is known all the same.
            OSError: the directory cannot be read.
        """
        return await asyncio.to_thread(self._look)

    def _look(self) -> Found:
        known: dict[str, _Known] = {}
        problems: list[str] = []
        for path, status in self._files():
            tenant = path.stem
            if tenant in known:
                problems.append(f"{path.name}: left out, there is another file for {tenant}")
                continue
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
            before = self._known.get(tenant)
            if before is None or before.signature != signature:
                before = self._read(path, signature, before)
            known[tenant] = before
            problems += [before.problem] if before.problem else []
        self._known = known
        found = {tenant: one.instances for tenant, one in known.items()}
        if problems:
            more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise Partial("; ".join(problems[:5]) + more, found)
        return found

    def _files(self) -> Iterable[tuple[Path, os.stat_result]]:
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                path = Path(entry.path)
                if path.suffix in SUFFIXES and path.stem and not entry.name.startswith("."):
                    try:
                        found.append((path, entry.stat()))
                    except FileNotFoundError:
                        continue  # gone since it was listed
                if len(found) > FILES_LIMIT:
                    raise BrokenFile(f"{self._directory} has more than {FILES_LIMIT} files")
        return sorted(found, key=lambda one: (one[0].stem, SUFFIXES.index(one[0].suffix)))

    def _read(self, path: Path, signature: tuple[int, int, int], before: _Known | None) -> _Known:
        settled = time.time() - signature[0] / 1e9 > _SETTLED_AFTER
        try:
            instances = read_instances(path.name, _content(path))
        except (BrokenFile, OSError) as error:
            reason = f"{path.name}: {error.strerror}" if isinstance(error, OSError) else str(error)
            kept = before.instances if before else ()
            return _Known(signature if settled else None, kept, reason)
        return _Known(signature if settled else None, instances, "")


def read_instances(name: str, text: str) -> tuple[Instance, ...]:
    """The instances of a file of this name, which says whether it is JSON or YAML.

    Raises:
        BrokenFile: with line and column, or a JSON path, of the first mistake.
    """
    document = _json(name, text) if name.endswith(".json") else _yaml(name, text)
    if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
        raise BrokenFile(f"{name}: $: must be an object with the list 'instances'")
    found: dict[str, Instance] = {}
    for index, body in enumerate(document["instances"]):
        path = f"$.instances[{index}]"
        one = _instance(name, path, body)
        if one.id in found:
            raise BrokenFile(f"{name}: {path}: the same service and endpoint stand above")
        found[one.id] = one
    return tuple(found.values())


def _instance(name: str, path: str, body: Any) -> Instance:
    try:
        read = msgspec.convert(body, _Body)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at ")
        raise BrokenFile(f"{name}: {path}{where.strip('`')[1:]}: {reason}") from None
    endpoint = read.endpoint or Endpoint()
    try:
        metadata = (
            msgspec.UNSET
            if read.metadata is msgspec.UNSET
            else msgspec.Raw(msgspec.json.encode(read.metadata))
        )
        one = Instance(
            instance_id(read.service_name or "", endpoint),
            read.service_name or "",
            endpoint,
            status=(read.status or "UP").upper(),
            metadata=metadata,
            last_heartbeat=NEVER_HEARD,
            tags=tuple(filter(None, read.tags or ())),
        )
        check_registration(one)
    except (InvalidInstance, TypeError, RecursionError, UnicodeEncodeError) as error:
        reason = str(error) if isinstance(error, InvalidInstance) else "holds what JSON cannot say"
        raise BrokenFile(f"{name}: {path}: {reason}") from None
    return msgspec.structs.replace(one, tags=(*(tag for tag in one.tags if tag != TAG), TAG))


def _content(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise BrokenFile(f"{path.name}: larger than {FILE_LIMIT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BrokenFile(f"{path.name}: byte {error.start} is not UTF-8") from None


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BrokenFile(f"{name}: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (RecursionError, ValueError):
        raise BrokenFile(f"{name}: nested too deeply, or a number that is too long") from None


def _yaml(name: str, text: str) -> Any:
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                raise BrokenFile(f"{name}: {_place(event.start_mark)}: aliases are not taken; write it out")
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, whichever of the two
    except yaml.MarkedYAMLError as error:
        where = _place(error.problem_mark or error.context_mark)
        raise BrokenFile(f"{name}: {where}: {error.problem or error.context or 'no YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BrokenFile(f"{name}: no YAML: {' '.join(str(error).split())[:200]}") from None


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
