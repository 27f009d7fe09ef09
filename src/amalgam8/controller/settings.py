"""The controller's settings. Each is described in ``docs/reference/settings.md``, made from this table."""

import dataclasses
from pathlib import Path

from amalgam8.runtime.kinds import FILE, PATH, URL, choice, duration, whole
from amalgam8.runtime.settings import setting
from amalgam8.web.settings import ServerSettings

_LATER = "is not supported yet"

DEFAULT_PATH = Path("~/.local/state/amalgam8/controller.db")

REFUSED = {
    name: f"{name} {_LATER}"
    for name in (
        "database_host",
        "database_username",
        "database_password",
        "database_namespace",
        "encryption_key",
    )
}
"""Settings that are known and not built."""


@dataclasses.dataclass(frozen=True)
class ControllerSettings(ServerSettings):
    """Durations in seconds."""

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
    registry_token: str = setting(
        "",
        "Sent to the registry as bearer token. An admin's is for every tenant, another one for its own.",
        secret=True,
    )
    registry_ca_cert: Path | None = setting(  # noqa: RUF009
        None,
        "Authorities in PEM that the registry's certificate is checked against. None: the system's.",
        FILE,
    )
    registry_client_cert: Path | None = setting(  # noqa: RUF009
        None, "Certificate chain in PEM to show where the registry asks for one.", FILE
    )
    registry_client_key: Path | None = setting(  # noqa: RUF009
        None, "Private key of registry_client_cert, in PEM.", FILE
    )
