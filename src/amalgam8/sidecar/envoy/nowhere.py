"""Routes that lead to no instance, and what every route says about itself.

A route to a cluster that never exists is answered by the listener's own words (``replies``), which are made
from the route's name, which is the service's, and its metadata: the address in paths and the rule that chose.
"""

from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2

from amalgam8.routing.addressing import address
from amalgam8.sidecar.envoy.chains import slotted
from amalgam8.sidecar.envoy.choices import always
from amalgam8.sidecar.envoy.messages import NAMESPACE, UNKNOWN, packed

NOWHERE = "a8.nowhere"
"""A cluster that never exists: a route to it is answered by the listener's own words."""


def metadata(name: str, rule: str = "", mirror: str = "") -> Any:
    """Route metadata of a service: for words about refusals, and the rules for the access record.

    The service itself is the route's name. None: there is nothing to say. Metadata makes a route dearer by
    a quarter.
    """
    key = address(name)
    values = {"key": "" if key == name else key, "rule": rule, "mirror": mirror}
    fields = {key: {"string_value": text} for key, text in values.items() if text}
    return base_pb2.Metadata(filter_metadata={NAMESPACE: {"fields": fields}}) if fields else None


def to_nowhere(status: str) -> Any:
    """A route whose only use is the status that Envoy answers with, and the service's name for the text.

    ``status`` is one of Envoy's ``ClusterNotFoundResponseCode``; the words come from the listener.
    """
    return slotted(
        route_components_pb2.Route(
            match={"prefix": "/"},
            route={"cluster": NOWHERE, "cluster_not_found_response_code": status},
            typed_per_filter_config={UNKNOWN: always([_name_from_path()])},
            metadata={"filter_metadata": {NAMESPACE: {"fields": {"dst": {"string_value": "-"}}}}},
        )
    )


def _name_from_path() -> Any:
    """Puts the first path segment where the words about an unknown service can quote it."""
    first_segment = {"pattern": {"regex": r"^/?([^/?]*)\C*"}, "substitution": r"\1"}
    pair = {"metadata_namespace": NAMESPACE, "key": "service", "regex_value_rewrite": first_segment}
    return packed(
        header_to_metadata_pb2.Config(request_rules=[{"header": ":path", "on_header_present": pair}])
    )
