"""The controller's settings. Each is described in ``docs/reference/settings.md``, made from this table."""

import dataclasses
from pathlib import Path

from amalgam8.clients.redis_address import ADDRESS
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import FILE, PATH, URL, choice, duration, whole
from amalgam8.runtime.settings import setting
from amalgam8.web.settings import ServerSettings

_LATER = "is not supported yet"

DEFAULT_PATH = Path("~/.local/state/amalgam8/controller.db")

REFUSED = {name: f"{name} {_LATER}" for name in ("encryption_key",)}
"""Settings that are known and not built."""

_ONLY = {
    "redis": ("database_host", "database_username", "database_password"),
    "kubernetes": ("database_namespace", "k8s_url", "k8s_token"),
}
"""Settings of one ``database_type``."""


@dataclasses.dataclass(frozen=True)
class ControllerSettings(ServerSettings):
    """Durations in seconds."""

    database_type: str = setting(
        "sqlite",
        "Where rules are kept: sqlite in a file, memory until the controller ends, redis in a Redis or "
        "Valkey that several controllers share, kubernetes in custom resources.",
        choice("sqlite", "memory", "redis", "kubernetes"),
    )
    database_path: Path = setting(  # noqa: RUF009 - setting() makes a dataclass field
        DEFAULT_PATH, "The file that sqlite keeps rules in.", PATH
    )
    database_host: str = setting(
        "", "Where that Redis or Valkey is. A port left out is 6379.", ADDRESS, secret=True
    )
    database_username: str = setting("", "Its user, where it knows users.")
    database_password: str = setting("", "Its password.", secret=True)
    database_namespace: str = setting(
        "", "Namespace of Kubernetes that holds the rules; by default the pod's own, else default."
    )
    k8s_url: str = setting(
        "", "URL of the Kubernetes API; without it the pod's service account or KUBECONFIG is used.", URL
    )
    k8s_token: str = setting("", "Bearer token for it.", secret=True)
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
    registry_ca_cert: Path | None = setting(  # noqa: RUF009 - declares an option
        None,
        "Authorities in PEM that the registry's certificate is checked against. None: the system's.",
        FILE,
    )
    registry_client_cert: Path | None = setting(  # noqa: RUF009 - declares an option
        None, "Certificate chain in PEM to show where the registry asks for one.", FILE
    )
    registry_client_key: Path | None = setting(  # noqa: RUF009 - declares an option
        None, "Private key of registry_client_cert, in PEM.", FILE
    )

    def __post_init__(self) -> None:
        if self.database_type == "redis" and not self.database_host:
            raise InvalidSetting("database_host: missing; database_type redis needs it")
        for kind, names in _ONLY.items():
            for name in names:
                if self.database_type != kind and getattr(self, name):
                    raise InvalidSetting(f"{name}: is for database_type {kind} only")
