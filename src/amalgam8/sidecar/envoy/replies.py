"""What Envoy answers by itself: refusals say who refused and why, faults and timeouts say nothing.

An app must not be able to tell an injected fault from a failure, so those answers have no words at all.
What an app answers is no local reply and is never touched.
"""

import json
from typing import Any

from amalgam8.sidecar.envoy.closing import END_STATUS
from amalgam8.sidecar.envoy.log_filters import all_hold, by_expression, by_flags, by_noted, by_status
from amalgam8.sidecar.envoy.messages import END_HEADER, FINAL_HEADER, NAMESPACE, REASON_HEADER

_JSON = "application/json"
_SENTENCES = {
    "unknown": "no such service",
    "unavailable": "no instance of the service can take the call",
    "denied": "the rules do not allow this call",
    "limited": "too many calls",
}
_NAMED = "%ROUTE_NAME%"
_KEY_OR_NAME = [{"command": "METADATA", "param": f"ROUTE:{NAMESPACE}:key"}, {"command": "ROUTE_NAME"}]
_KEY = f"%COALESCE({json.dumps({'operators': _KEY_OR_NAME})})%"
_RULED = f"%METADATA(ROUTE:{NAMESPACE}:rule)%"


def first_pass() -> list[Any]:
    """Mappers of the listener that apps call; the first that fits applies."""
    from_path = f"%DYNAMIC_METADATA({NAMESPACE}:service)%"
    denied = f"%DYNAMIC_METADATA({NAMESPACE}:denied)%"
    limited = f"%DYNAMIC_METADATA({NAMESPACE}:limit)%"
    return [
        _mapper(all_hold(by_flags("NC"), by_status(404)), 404, "unknown", from_path, from_path, ""),
        _mapper(by_flags("NR"), 404, "unknown", "", "", ""),
        _mapper(all_hold(by_flags("NC"), by_status(500)), 503, "unavailable", from_path, from_path, ""),
        _mapper(
            by_expression("response.code_details.startsWith('rbac_access_denied')"),
            403,
            "denied",
            _KEY,
            _NAMED,
            denied,
        ),
        _mapper(
            by_expression("response.code_details == 'local_rate_limited'"),
            429,
            "limited",
            _KEY,
            _NAMED,
            limited,
        ),
        _unavailable("UH", "UF", "UO", "NC"),
        _too_long(),
        *_unsaid(),
    ]


def second_pass() -> list[Any]:
    """Mappers of the internal listener, where instances are missing and faults act.

    Where there is no instance, or none that may take more, the pass in front must not try again.
    """
    final = {"header": {"key": FINAL_HEADER, "value": "true"}}
    refused = _unavailable("UH", "UO", "NC")
    refused["headers_to_add"].append(final)
    return [refused, _unavailable("UF"), _too_long(), *_unsaid()]


def _unavailable(*flags: str) -> dict[str, Any]:
    return _mapper(by_flags(*flags), 503, "unavailable", _KEY, _NAMED, _RULED)


def _too_long() -> dict[str, Any]:
    """An instance refused the connection, and too much of the body had come to be sent to another."""
    where = by_expression("response.code_details == 'request_payload_exceeded_retry_buffer_limit'")
    return _mapper(where, 503, "unavailable", _KEY, _NAMED, _RULED)


def _unsaid() -> list[dict[str, Any]]:
    """Faults and failures, of which an app hears no word."""
    return [
        {
            "filter": all_hold(by_flags("FI"), by_noted("end", "1"), by_status(END_STATUS)),
            "headers_to_add": [{"header": {"key": END_HEADER, "value": "1"}}],
            "body_format_override": _NO_WORDS,
        },
        {"filter": by_flags(*_FAILURES), "body_format_override": _NO_WORDS},
    ]


_FAILURES = ("FI", "DI", "UT", "UC", "UR", "LR", "UPE", "SI", "DPE", "URX", "UMSDR")
_NO_WORDS = {"text_format_source": {"inline_string": ""}}


def _mapper(where: Any, status: int, kind: str, key: str, service: str, rule: str) -> dict[str, Any]:
    return {
        "filter": where,
        "status_code": {"value": status},
        "headers_to_add": [
            {
                "header": {"key": REASON_HEADER, "value": f"{kind}; service={key}; rule={rule}"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        "body_format_override": {
            "json_format": {
                "error": _SENTENCES[kind],
                "service": service and _text(service),
                "rule": rule and _text(rule),
            },
            "omit_empty_values": True,
            "content_type": _JSON,
        },
    }


def _text(value: str) -> str:
    """A value that is missing becomes empty text, where on its own it would be null."""
    return f"{value}%REQ({REASON_HEADER})%"  # clients cannot send that header, so it adds nothing
