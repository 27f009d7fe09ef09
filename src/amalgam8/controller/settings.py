"""The controller's settings. Each is described in ``docs/reference/settings.md``, made from this table."""

import dataclasses
from pathlib import Path

from amalgam8.clients.redis_address import ADDRESS
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import PATH, choice, duration, whole
from amalgam8.runtime.settings import setting
from amalgam8.web.settings import ServerSettings

_LATER = "is not supported yet"

DEFAULT_PATH = Path("~/.local/state/amalgam8/controller.db")

REFUSED = {
    name: f"{name} {_LATER}"
    for name in (
        "database_namespace",
        "encryption_key",
        "registry_url",
    )
}
"""Settings that are known and not built."""


@dataclasses.dataclass(frozen=True)
class ControllerSettings(ServerSettings):
    """Durations in seconds."""

    database_type: str = setting(
        "sqlite",
        "Where rules are kept: sqlite in a file, memory until the controller ends, redis in a Redis or "
        "Valkey that several controllers share.",
        choice("sqlite", "memory", "redis", later=("kubernetes",)),
    )
    database_path: Path = setting(  # noqa: RUF009 - setting() makes a dataclass field
        DEFAULT_PATH, "The file that sqlite keeps rules in.", PATH
    )
    database_host: str = setting(
        "", "Where that Redis or Valkey is. A port left out is 6379.", ADDRESS, secret=True
    )
    database_username: str = setting("", "Its user, where it knows users.")
    database_password: str = setting("", "Its password.", secret=True)
    history_kept: int = setting(
        10_000,
        "Revisions that the history keeps, and that rules can be rolled back over.",
        whole(1, 1_000_000),
    )
    fault_ttl: float = setting(
        3600.0, "Life of fault rules that name neither expires nor ttl.", duration(1, 30 * 86400)
    )

    def __post_init__(self) -> None:
        if self.database_type == "redis" and not self.database_host:
            raise InvalidSetting("database_host: missing; database_type redis needs it")
        if self.database_type != "redis":
            for name in ("database_host", "database_username", "database_password"):
                if getattr(self, name):
                    raise InvalidSetting(f"{name}: is for database_type redis only")
