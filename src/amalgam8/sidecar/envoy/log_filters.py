"""By what a call is told from others once it has ended: for its record, and for words about refusals.

Source: ``envoy.config.accesslog.v3.AccessLogFilter``.
"""

from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2

from amalgam8.sidecar.envoy.messages import NAMESPACE, packed

_STATUS = "a8.status"
"""Envoy wants a name under which its runtime could give another value; nothing does."""


def by_flags(*flags: str) -> Any:
    """Any of these response flags."""
    return accesslog_pb2.AccessLogFilter(response_flag_filter={"flags": flags})


def by_expression(expression: str) -> Any:
    """By Envoy's words for why it answered, which are there where flags and metadata are not yet."""
    config = packed(cel_pb2.ExpressionFilter(expression=expression))
    return accesslog_pb2.AccessLogFilter(extension_filter={"name": "cel", "typed_config": config})


def by_status(status: int, comparison: str = "EQ") -> Any:
    """Whether the answer has this status (``EQ``) or not (``NE``)."""
    value = {"default_value": status, "runtime_key": _STATUS}
    comparing = {"op": comparison, "value": value}
    return accesslog_pb2.AccessLogFilter(status_code_filter={"comparison": comparing})


def by_noted(key: str, value: str) -> Any:
    """Whether a filter noted this value."""
    return _metadata(key, {"string_match": {"exact": value}}, unknown=False)


def by_presence(key: str, present: bool) -> Any:
    """Whether a filter noted anything under ``key``, or none did."""
    return _metadata(key, {"present_match": present}, unknown=not present)


def by_grpc(is_grpc: bool) -> Any:
    """By the request's content type."""
    header = {
        "name": "content-type",
        "string_match": {"prefix": "application/grpc"},
        "invert_match": not is_grpc,
        "treat_missing_header_as_empty": True,
    }
    return accesslog_pb2.AccessLogFilter(header_filter={"header": header})


def all_hold(*filters: Any) -> Any:
    return accesslog_pb2.AccessLogFilter(and_filter={"filters": filters})


def any_holds(*filters: Any) -> Any:
    return accesslog_pb2.AccessLogFilter(or_filter={"filters": filters})


def _metadata(key: str, value: Any, *, unknown: bool) -> Any:
    matcher = {"filter": NAMESPACE, "path": [{"key": key}], "value": value}
    return accesslog_pb2.AccessLogFilter(
        metadata_filter={"matcher": matcher, "match_if_key_not_found": {"value": unknown}}
    )
