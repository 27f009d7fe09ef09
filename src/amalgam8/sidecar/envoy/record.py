"""The access record: one JSON object per request, and the counters that are kept beside it.

Members are those of the original's access log, times in milliseconds; ``dst`` is the service and tags of
the instance that was called, the last one if there were several attempts, or the service alone if none
was. What is missing is ``-``. Records of traced calls go to a file of their own, for the agent to write
each trace under its own name. With two passes, what the instance's side knows comes from a header.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2

from amalgam8.sidecar.envoy.log_filters import all_hold, any_holds, by_grpc, by_presence, by_status
from amalgam8.sidecar.envoy.messages import (
    EMPTY_VARIABLE,
    NAMESPACE,
    NOTED,
    REASON_HEADER,
    SHARED,
    packed,
)

USUAL = 200
"""The status of most answers. Whatever ends a call in another way, its record may miss something; so may that
of a gRPC call, where refusals have this status too."""

TRACES = "traces"
"""The member of a traced call's record that holds its keys and values until the agent has spread them."""

REASON_LETTERS = 7
"""So many letters tell the kinds of refusal apart; the rest of the header may hold what a client wrote."""

PART = "\x1f"
"""Between the parts of a tag: a control character, and names and tags of services hold none."""

HISTOGRAM, DEMAND = "duration", "demand"
STATS_PREFIX = "a8."

_OURS = f"metadata.filter_metadata['{NAMESPACE}']"
_FIRED = (
    f"has({_OURS}.fault) && "
    f"(has({_OURS}.fired) || response.flags / 512 % 4 > 0 || response.flags / 4 % 2 > 0)"
)
"""Whether a fault acted. Bits 9 and 10 of Envoy's response flags: a delay or an abort was injected. Bit 2:
the timeout ended the call; what it waited for is not known, and an injected delay most likely."""


def loggers(source: str, records: Path | None, traced: Path) -> list[Any]:
    """Access loggers: ``source`` is the caller as ``name:tag,tag``; ``records`` None: no records.

    Most calls are answered with 200, and no filter noted anything about them: those records cost least.
    """
    found = [_counters(), _demand()]
    if records is not None:
        nothing = by_presence(NOTED, False)
        usual = all_hold(by_status(USUAL), by_grpc(False))
        other = any_holds(by_status(USUAL, "NE"), by_grpc(True))
        found.append(_file(records, all_hold(usual, nothing), _usual(source)))
        found.append(_file(records, all_hold(other, nothing), _plain(source)))
        noted = all_hold(by_presence(NOTED, True), by_presence("trace", False))
        found.append(_file(records, noted, _members(source, is_traced=False), omit_empty=True))
    found.append(_file(traced, by_presence("trace", True), _members(source, is_traced=True), omit_empty=True))
    return found


def _usual(source: str) -> dict[str, Any]:
    """What there is to say about a call that went well: nothing is missing that every such call has."""
    return _plain(source) | {
        "status": str(USUAL),
        "message": f"%REQ(:METHOD)% {_PATH} {USUAL}",
        "dst": f"%UPSTREAM_METADATA({NAMESPACE}:name)%" + AS_TEXT,
        "method": "%REQ(:METHOD)%",
        "path": _PATH,
        "protocol": "%PROTOCOL%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "auth": "%REQ(:AUTHORITY)%",
    }


def _plain(source: str) -> dict[str, Any]:
    """What there is to say about each call."""
    return {
        "status": "%RESPONSE_CODE%" + AS_TEXT,
        "start_time": "%START_TIME%",
        "request_time": "%DURATION%",
        "upstream_response_time": f"%RESP({_SERVICE_TIME})%" + AS_TEXT,
        "src": source.replace("%", "%%"),
        "dst": coalesced(_UPSTREAM, _SERVICE, _NOBODY, _MISSING),
        "message": f"%REQ(:METHOD)% {_PATH} %RESPONSE_CODE%",
        "module": "ENVOY",
        "method": "%REQ(:METHOD)%" + AS_TEXT,
        "path": _PATH + AS_TEXT,
        "protocol": "%PROTOCOL%" + AS_TEXT,
        "response_flags": "%RESPONSE_FLAGS%",
        "x_forwarded": "%REQ(X-FORWARDED-FOR)%" + AS_TEXT,
        "user_agent": "%REQ(USER-AGENT)%" + AS_TEXT,
        "request_id": "%REQ(X-REQUEST-ID)%" + AS_TEXT,
        "auth": "%REQ(:AUTHORITY)%" + AS_TEXT,
        "upstream_host": "%UPSTREAM_HOST%" + AS_TEXT,
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "fault": False,
        "rules": [f"%METADATA(ROUTE:{NAMESPACE}:rule)%" + AS_TEXT],
    }


def _members(source: str, is_traced: bool) -> dict[str, Any]:
    """And what filters noted, or the last pass told: as many rules as acted, where others are left out."""
    members = _plain(source) | {
        "upstream_response_time": coalesced({"command": "RESP", "param": _SERVICE_TIME}, _MISSING),
        "dst": coalesced(_dynamic("dst"), _UPSTREAM, _SERVICE, _NOBODY, _MISSING),
        "method": coalesced(_request(":METHOD"), _MISSING),
        "path": coalesced(_request(_PATH_AS_IT_CAME), _MISSING),
        "protocol": coalesced({"command": "PROTOCOL"}, _MISSING),
        "response_flags": coalesced(_dynamic("flags"), {"command": "RESPONSE_FLAGS"}),
        "x_forwarded": coalesced(_request("X-FORWARDED-FOR"), _MISSING),
        "user_agent": coalesced(_request("USER-AGENT"), _MISSING),
        "request_id": coalesced(_request("X-REQUEST-ID"), _MISSING),
        "auth": coalesced(_request(":AUTHORITY"), _MISSING),
        "upstream_host": coalesced(_dynamic("host"), {"command": "UPSTREAM_HOST"}, _MISSING),
        "attempts": coalesced(_dynamic("tries"), {"command": "UPSTREAM_REQUEST_ATTEMPT_COUNT"}),
        "fault": f"%TYPED_CEL({_FIRED})%",
        "rules": [
            *(f"%METADATA(ROUTE:{NAMESPACE}:{key})%" for key in ("rule", "mirror")),
            *(
                f"%DYNAMIC_METADATA({NAMESPACE}:{key})%"
                for key in ("denied", "limit", "headers", "fault", "trace")
            ),
        ],
    }
    if is_traced:
        members[TRACES] = f"%DYNAMIC_METADATA({NAMESPACE}:traces)%"
    return members


AS_TEXT = f"%ENVIRONMENT({EMPTY_VARIABLE})%"
"""Adds nothing, and makes text of what stands before it: of a number, and ``-`` of what is missing.

A value that is a text already costs as much with it as without, metadata and addresses even less.
"""

_SERVICE_TIME = "X-ENVOY-UPSTREAM-SERVICE-TIME"
"""In milliseconds; Envoy sets it on each answer of an instance, whatever that said."""

_PATH_AS_IT_CAME = "X-ENVOY-ORIGINAL-PATH?:PATH"
"""Envoy keeps it in a header when it cuts it; clients cannot send that header."""

_PATH = f"%REQ({_PATH_AS_IT_CAME})%"
_UPSTREAM = {"command": "UPSTREAM_METADATA", "param": f"{NAMESPACE}:name"}
_SERVICE = {"command": "ROUTE_NAME"}
_NOBODY = {"command": "METADATA", "param": f"ROUTE:{NAMESPACE}:dst"}
_MISSING = {"command": "ENVIRONMENT", "param": "-"}
"""No variable has such a name, and of what is missing Envoy makes a dash."""


def coalesced(*commands: dict[str, str]) -> str:
    """The first of these that has a value."""
    return f"%COALESCE({json.dumps({'operators': commands})})%"


def _dynamic(key: str) -> dict[str, str]:
    return {"command": "DYNAMIC_METADATA", "param": f"{NAMESPACE}:{key}"}


def _request(header: str) -> dict[str, str]:
    return {"command": "REQ", "param": header}


def _file(path: Path, where: Any, members: dict[str, Any], *, omit_empty: bool = False) -> Any:
    config = file_pb2.FileAccessLog(
        path=str(path), log_format={"json_format": members, "omit_empty_values": omit_empty}
    )
    return accesslog_pb2.AccessLog(name="records", filter=where, typed_config=packed(config))


def _counters() -> Any:
    """How long calls took, by destination, version, status and reason; a histogram counts what it holds.

    All of that is one tag, PART between the parts: each tag costs a call as much as a member of its record,
    and a counter beside the histogram as much as two.
    """
    called = (
        "%ROUTE_NAME%",
        f"%UPSTREAM_METADATA({NAMESPACE}:name)%",
        f"%DYNAMIC_METADATA({NAMESPACE}:dst)%",
        "%RESPONSE_CODE%",
        f"%RESP({REASON_HEADER}):{REASON_LETTERS}%",
    )
    tag = {"name": "call", "value_format": PART.join(called)}
    config = stats_pb2.Config(stat_prefix=STATS_PREFIX.rstrip("."))
    config.histograms.add(
        stat={"name": HISTOGRAM, "tags": [tag]}, unit="Milliseconds", value_format="%DURATION%"
    )
    return accesslog_pb2.AccessLog(name="counters", typed_config=packed(config))


def _demand() -> Any:
    """Calls that came to a limit of the fleet, by rule and reason of a refusal."""
    tags = [
        {"name": "rule", "value_format": f"%DYNAMIC_METADATA({NAMESPACE}:{SHARED})%"},
        {"name": "reason", "value_format": f"%RESP({REASON_HEADER}):{REASON_LETTERS}%"},
    ]
    config = stats_pb2.Config(stat_prefix=STATS_PREFIX.rstrip("."))
    config.counters.add(stat={"name": DEMAND, "tags": tags}, value_fixed={"value": 1})
    return accesslog_pb2.AccessLog(
        name="demand", filter=by_presence(SHARED, True), typed_config=packed(config)
    )


Loggers = Sequence[Any]
