"""The registry's settings. Each is described in ``docs/reference/settings.md``, made from this table."""

import dataclasses

from amalgam8.catalogs.loader import Choice, choices
from amalgam8.clients.redis_address import ADDRESS
from amalgam8.model.errors import InvalidSetting
from amalgam8.registry.memory import UNLIMITED
from amalgam8.registry.preservation import LIMIT
from amalgam8.registry.registration import Ttls
from amalgam8.runtime.kinds import BOOLEAN, URL, Kind, choice, duration, show_duration, whole
from amalgam8.runtime.settings import setting
from amalgam8.web.settings import ServerSettings

_LATER = "is not supported yet"
_TTL = duration(1, 86400)
_LIST = Kind[tuple[str, ...]](
    "a list with commas between",
    lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
    ",".join,
    many=True,
)

REFUSED = {
    "replication": f"replication between registries {_LATER}",
    "replication_port": f"replication_port {_LATER}: replication between registries is not",
    "sync_timeout": f"sync_timeout {_LATER}: replication between registries is not",
    "cluster_dir": f"cluster_dir {_LATER}: replication between registries is not",
    "cluster_size": f"cluster_size {_LATER}: replication between registries is not",
}
"""Settings of the original that are known and not built."""


@dataclasses.dataclass(frozen=True)
class RegistrySettings(ServerSettings):
    """Durations in seconds."""

    default_ttl: float = setting(30.0, "Life of a lease that names no ttl.", _TTL)
    min_ttl: float = setting(10.0, "Shortest life of a lease; a shorter ttl is raised to it.", _TTL)
    max_ttl: float = setting(600.0, "Longest life of a lease; a longer ttl is lowered to it.", _TTL)
    namespace_capacity: int = setting(
        UNLIMITED, "Instances that a tenant may have; -1: as many as it likes.", whole(-1, 10_000_000)
    )
    store: str = setting(
        "inmem",
        "Where instances are kept: inmem in memory until the registry ends, redis in a Redis or Valkey that "
        "several registries share.",
        choice("inmem", "redis"),
    )
    store_address: str = setting(
        "", "Where that Redis or Valkey is. A port left out is 6379.", ADDRESS, secret=True
    )
    store_password: str = setting("", "Its password.", secret=True)
    fs_catalog: str = setting("", "Directory with a file of instances for each tenant.")
    k8s_url: str = setting("", "URL of a Kubernetes API whose services are shown too.", URL)
    k8s_token: str = setting("", "Bearer token for it.", secret=True)
    eureka_url: tuple[str, ...] = setting(
        (),
        "URLs of a Eureka whose instances are shown too; they may hold user:password@.",
        _LIST,
        secret=True,
    )
    eureka_publish: bool = setting(
        False, "Whether that Eureka is to have what is registered here by the tenant default.", BOOLEAN
    )
    catalog: tuple[str, ...] = setting(
        (),
        "More catalogues, each written name?option=value&option=value: file, kubernetes, eureka, or one that "
        "is installed beside the registry.",
        _LIST,
        secret=True,
    )

    freeze_limit: float = setting(
        LIMIT,
        "Longest time for which expiry freezes where many of a tenant's leases are late at once; 0s: never.",
        duration(0, 86400),
    )

    def __post_init__(self) -> None:
        if self.store == "redis" and not self.store_address:
            raise InvalidSetting("store_address: missing; store redis needs it")
        if self.store != "redis" and (self.store_address or self.store_password):
            raise InvalidSetting("store_address and store_password are for store redis only")
        if self.eureka_publish and not self.eureka_url:
            raise InvalidSetting("eureka_url: missing; eureka_publish needs it")
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
    def catalogs(self) -> list[Choice]:
        """The catalogues that these settings ask for.

        Raises:
            InvalidSetting: one is not written as it should be.
        """
        return choices(
            fs_catalog=self.fs_catalog,
            k8s_url=self.k8s_url,
            k8s_token=self.k8s_token,
            eureka_url=self.eureka_url,
            catalog=self.catalog,
        )

    @property
    def ttls(self) -> Ttls:
        return Ttls(int(self.min_ttl), int(self.default_ttl), int(self.max_ttl))
