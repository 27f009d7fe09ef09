"""The controller's settings. Each is described in ``docs/reference/settings.md``, made from this table."""

import dataclasses
from pathlib import Path

from amalgam8.runtime import logs
from amalgam8.runtime.kinds import LISTEN_PORT, PATH, URL, choice, duration, whole
from amalgam8.runtime.settings import setting

_LATER = "is not supported yet"

DEFAULT_PATH = Path("~/.local/state/amalgam8/controller.db")

REFUSED = {
    name: f"{name} {_LATER}"
    for name in (
        "jwt_secret",
        "require_https",
        "database_host",
        "database_username",
        "database_password",
        "database_namespace",
        "encryption_key",
    )
}
"""Settings that are known and not built."""


@dataclasses.dataclass(frozen=True)
class ControllerSettings:
    """Durations in seconds."""

    api_port: int = setting(8080, "Port of the REST API and the streams.", LISTEN_PORT)
    listen_host: str = setting("127.0.0.1", "Address to listen on.")
    database_type: str = setting(
        "sqlite",
        "Where rules are kept: in a file, or in memory until the controller ends.",
        choice("sqlite", "memory", later=("redis", "kubernetes")),
    )
    database_path: Path = setting(  # noqa: RUF009 - setting() makes a dataclass field
        DEFAULT_PATH, "The file that sqlite keeps rules in.", PATH
    )
    history_kept: int = setting(
        10_000,
        "Revisions that the history keeps, and that rules can be rolled back over.",
        whole(1, 1_000_000),
    )
    fault_ttl: float = setting(
        3600.0, "Life of fault rules that name neither expires nor ttl.", duration(1, 30 * 86400)
    )
    registry_url: str = setting(
        "",
        "The registry, for explanations to know the instances. None: they tell versions by tags.",
        URL,
    )
    registry_token: str = setting("", "Sent to the registry as bearer token.", secret=True)
    auth_mode: str = setting(
        "none",
        "Who may use the API: none lets everybody, as the tenant 'default'.",
        choice("none", later=("trusted", "jwt")),
    )
    log_level: str = setting("info", "Least severe log records to write.", logs.LEVEL)
    log_format: str = setting("text", "Form of log records.", logs.FORMAT)
