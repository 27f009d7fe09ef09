"""A store and catalogues as one store: what is registered here, and what somebody else looks after.

Writes go to the store. Reads come from views of their own, in which a lease hides an instance of a
catalogue that has the same id; once the lease ends, that one shows again. Instances of catalogues take no
room, have no lease and never expire; renewing or removing one is the store's InstanceGone. Revisions count
here, in an epoch of their own: another registry's catalogues may tell the same in another order.
"""

import secrets
from collections.abc import Callable, Collection, Sequence

from amalgam8.catalogs.catalog import Catalog
from amalgam8.catalogs.following import Catalogs
from amalgam8.catalogs.merge import Delta
from amalgam8.model.errors import StoreUnavailable
from amalgam8.model.instance import Instance
from amalgam8.registry.heartbeats import renew_many
from amalgam8.registry.lease import Lease
from amalgam8.registry.store import Store
from amalgam8.registry.view import Change, View


class Listed(Lease):
    """An instance of a catalogue, shown as it was told."""

    __slots__ = ()

    def __init__(self, tenant: str, instance: Instance) -> None:
        super().__init__(tenant, instance, 0.0, 0.0)

    def shown(self) -> Instance:
        return self.instance


class CataloguedStore:
    """A Store over ``store`` and catalogues, which ``catalogs.run`` follows."""

    def __init__(self, store: Store, opened: Sequence[Catalog]) -> None:
        self.epoch = secrets.token_hex(8)
        self.catalogs = Catalogs(opened, changed=self._changed)
        self._store = store
        self._tenants: dict[str, _Tenant] = {}

    @property
    def waits(self) -> bool:
        return self._store.waits

    def tenants(self) -> Collection[str]:
        return {*self._store.tenants(), *self._tenants, *self.catalogs.tenants()}

    def view(self, tenant: str) -> View:
        leased = self._store.view(tenant)
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant(tenant, self)
        found.follow(leased)
        return found.view

    async def register(self, tenant: str, instance: Instance) -> None:
        if self.leased(tenant) is not None:
            self.view(tenant)  # so that its revisions count from the first change on
        await self._store.register(tenant, instance)

    async def amend(self, tenant: str, identity: str, change: Callable[[Instance], Instance]) -> None:
        await self._store.amend(tenant, identity, change)

    async def renew(self, tenant: str, identity: str) -> None:
        await self._store.renew(tenant, identity)

    async def renew_many(self, tenant: str, ids: Sequence[str]) -> list[str]:
        return (await renew_many(self._store, tenant, ids)).unknown

    async def remove(self, tenant: str, identity: str) -> None:
        await self._store.remove(tenant, identity)

    async def expire(self) -> int:
        return await self._store.expire()

    def _changed(self, delta: Delta) -> None:
        """Show what the catalogues say has changed."""
        found = self._tenants.get(delta.tenant)
        if found is not None:  # else its view is made whole when it is first asked for
            for identity in (*delta.removed, *(one.id for one in delta.upserted)):
                found.listed(identity)

    def leased(self, tenant: str) -> View | None:
        """The tenant's leases alone; None while the store cannot tell."""
        try:
            return self._store.view(tenant)
        except StoreUnavailable:
            return None

    def listed(self, tenant: str, identity: str) -> Instance | None:
        return self.catalogs.of(tenant).get(identity)

    def ids(self, tenant: str) -> Collection[str]:
        return self.catalogs.of(tenant).keys()


class _Tenant:
    """One tenant's view, kept up to its leases and to the catalogues."""

    def __init__(self, tenant: str, owner: CataloguedStore) -> None:
        self.view = View()
        self._tenant = tenant
        self._owner = owner
        self._leased: View | None = None

    def follow(self, leased: View) -> None:
        """Show these leases; a store that begins anew has another view."""
        if leased is self._leased:
            return
        self._leased = leased
        leased.feed.on_change(lambda change: self._heard(leased, change))
        self._settle_all()

    def listed(self, identity: str) -> None:
        """The catalogues have changed here."""
        if self._leased is None or self._leased.get(identity) is None:
            self._settle(identity)

    def _settle(self, identity: str) -> None:
        """Show under this id the lease, else the catalogues' instance, else nothing."""
        lease = None if self._leased is None else self._leased.get(identity)
        instance = None if lease is not None else self._owner.listed(self._tenant, identity)
        shown = self.view.get(identity)
        if isinstance(shown, Listed) and shown.instance == instance:
            return
        wanted = lease if instance is None else Listed(self._tenant, instance)
        if shown is not None and (wanted is None or not _same_service(shown, wanted)):
            self.view.drop(shown)
        if wanted is not None:
            self.view.put(wanted)

    def _heard(self, leased: View, change: Change | None) -> None:
        if leased is not self._leased:
            return
        if change is not None:
            self._settle(change.id)
            return
        current = self._owner.leased(self._tenant)
        if current is None or current is leased:
            self._settle_all()
        else:
            self.follow(current)

    def _settle_all(self) -> None:
        shown = {lease.instance.id: lease for lease in self.view}
        leased = {lease.instance.id: lease for lease in self._leased or ()}
        for identity in {*shown, *leased, *self._owner.ids(self._tenant)}:
            if identity not in shown or shown[identity] is not leased.get(identity):
                self._settle(identity)


def _same_service(one: Lease, other: Lease) -> bool:
    return one.instance.service_name == other.instance.service_name
