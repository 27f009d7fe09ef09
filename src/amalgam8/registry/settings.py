"""The registry's settings. Each is described in ``docs/reference/settings.md``, made from this table."""

import dataclasses

from amalgam8.model.errors import InvalidSetting
from amalgam8.registry.memory import UNLIMITED
from amalgam8.registry.registration import Ttls
from amalgam8.runtime import logs
from amalgam8.runtime.kinds import LISTEN_PORT, choice, duration, show_duration, whole
from amalgam8.runtime.settings import setting

_LATER = "is not supported yet"
_TTL = duration(1, 86400)

REFUSED = {
    "jwt_secret": f"jwt_secret {_LATER}: auth_mode jwt is not",
    "require_https": f"require_https {_LATER}",
    "store_address": f"store_address {_LATER}: instances are kept in memory",
    "store_password": f"store_password {_LATER}: instances are kept in memory",
    "replication": f"replication between registries {_LATER}",
    "replication_port": f"replication_port {_LATER}: replication between registries is not",
    "sync_timeout": f"sync_timeout {_LATER}: replication between registries is not",
    "cluster_dir": f"cluster_dir {_LATER}: replication between registries is not",
    "cluster_size": f"cluster_size {_LATER}: replication between registries is not",
    "k8s_url": f"k8s_url {_LATER}: instances of Kubernetes are not read",
    "k8s_token": f"k8s_token {_LATER}: instances of Kubernetes are not read",
    "eureka_url": f"eureka_url {_LATER}: instances of Eureka are not read",
    "fs_catalog": f"fs_catalog {_LATER}: instances are not read from files",
}
"""Settings of the original that are known and not built."""


@dataclasses.dataclass(frozen=True)
class RegistrySettings:
    """Durations in seconds."""

    api_port: int = setting(8080, "Port of the REST API and the streams.", LISTEN_PORT)
    listen_host: str = setting("127.0.0.1", "Address to listen on.")
    default_ttl: float = setting(30.0, "Life of a lease that names no ttl.", _TTL)
    min_ttl: float = setting(10.0, "Shortest life of a lease; a shorter ttl is raised to it.", _TTL)
    max_ttl: float = setting(600.0, "Longest life of a lease; a longer ttl is lowered to it.", _TTL)
    namespace_capacity: int = setting(
        UNLIMITED, "Instances that a tenant may have; -1: as many as it likes.", whole(-1, 10_000_000)
    )
    store: str = setting(
        "inmem",
        "Where instances are kept: in memory until the registry ends.",
        choice("inmem", later=("redis",)),
    )
    auth_mode: str = setting(
        "none",
        "Who may use the API: none lets everybody, as the tenant 'default'.",
        choice("none", later=("trusted", "jwt")),
    )
    log_level: str = setting("info", "Least severe log records to write.", logs.LEVEL)
    log_format: str = setting("text", "Form of log records.", logs.FORMAT)

    def __post_init__(self) -> None:
        for name in ("default_ttl", "min_ttl", "max_ttl"):
            if getattr(self, name) % 1:
                raise InvalidSetting(
                    f"{name}: {show_duration(getattr(self, name))} is not a whole number of seconds"
                )
        if not self.min_ttl <= self.default_ttl <= self.max_ttl:
            raise InvalidSetting(
                f"default_ttl: {show_duration(self.default_ttl)} is not allowed; allowed: from min_ttl, "
                f"{show_duration(self.min_ttl)}, to max_ttl, {show_duration(self.max_ttl)}"
            )

    @property
    def ttls(self) -> Ttls:
        return Ttls(int(self.min_ttl), int(self.default_ttl), int(self.max_ttl))
