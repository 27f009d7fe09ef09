"""What one tenant may see of a server's metrics: its own series, and those that are no tenant's.

Every series of a tenant has the tenant's name as a label. Refuses to sum over tenants: a total tells
somebody with two tenants to compare what the other one does.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector


class OneTenant(CollectorRegistry):
    """All that ``source`` collects, without the series that carry another tenant's name.

    ``tenant`` is empty for somebody who has none.
    """

    def __init__(self, source: CollectorRegistry, tenant: str) -> None:
        super().__init__()
        self.register(_Filtered(source, tenant))


class _Filtered(Collector):
    def __init__(self, source: CollectorRegistry, tenant: str) -> None:
        self._source = source
        self._may = ("", tenant)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for family in self._source.collect():
            kept = [sample for sample in family.samples if sample.labels.get("tenant", "") in self._may]
            shown = Metric(family.name, family.documentation, family.type, family.unit)
            shown.samples = kept
            yield shown
