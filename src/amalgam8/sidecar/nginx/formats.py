"""The access record in nginx's own words: one JSON object for each call, which nginx writes by itself.

Members are those of the original's access log, times in milliseconds; ``dst`` is the service and tags of
the instance that was called, the last one if there were several attempts, or the service alone if none
was. The plain format takes for granted what is so of most calls: one attempt, one rule at most, nothing odd,
begun and ended in the same second. Of other calls ``record.lua`` says these members.
"""

import json
from pathlib import Path

QUICK = 100
"""Calls up to so many milliseconds have their times looked up as words, which is cheaper than a pattern."""

DOLLAR = "geo $a8_dollar { default $; }"
"""A format has no other way to say it."""


def _milliseconds() -> str:
    """nginx knows seconds with three digits. Of several attempts, the last one's time counts."""
    quick = "".join(f" 0.{time:03} {time};" for time in range(QUICK))
    return rf"""
    map $upstream_header_time $a8_took {{
       {quick}
        "~(?:^|[ ,:])0\.0*(?<a8_took_part>\d+)$" $a8_took_part;
        "~(?<a8_took_s>\d+)\.(?<a8_took_p>\d+)$" $a8_took_s$a8_took_p;
        default "-";
    }}
    map $request_time $a8_ms {{
       {quick}
        "~^0\.0*(?<a8_part>\d+)$" $a8_part;
        "~^(?<a8_s>\d+)\.(?<a8_p>\d+)$" $a8_s$a8_p;
    }}
"""


_KNOWN = (
    '"status":"$status","request_time":$a8_ms,"upstream_response_time":"$a8_took",',
    '"dst":"$a8_dst","module":"NGINX","method":"$request_method","protocol":"$server_protocol",',
    '"upstream_host":"$upstream_addr","bytes_received":$request_length,"bytes_sent":$body_bytes_sent,',
)
"""What nginx alone knows at the end of a call, and nobody but nginx can have put in."""

_PLAIN = (
    '"start_time":"$time_iso8601","attempts":1,"response_flags":"-","fault":false,',
    '"path":"$request_uri","user_agent":"$http_user_agent","x_forwarded":"$http_x_forwarded_for",',
    '"request_id":"$a8_id","auth":"$http_host",',
    '"message":"$request_method $request_uri $status","rules":["$a8_rule"]}',
)


def formats(source: str) -> str:
    """Formats of the access record: of most calls, and with what Lua wrote; ``source`` is the caller."""
    said = f'{{"src":{_literal(source)},'
    formats = (("a8_plain", "json", (*_KNOWN, *_PLAIN)), ("a8_more", "none", (*_KNOWN, "$a8_more}")))
    found = _milliseconds() + f"    {DOLLAR}\n"
    for name, escape, pieces in formats:
        quoted = " ".join(f"'{piece}'" for piece in (said, *pieces))
        found += f"    log_format {name} escape={escape} {quoted};\n"
    return found


def _literal(text: str) -> str:
    """A JSON string that stands in a format as it is: nothing in it is a variable, or ends a word."""
    encoded = json.dumps(text).replace("\\", "\\\\").replace("'", "\\'")
    return encoded.replace("$", "${a8_dollar}")


def written(record: Path | None, traced: Path) -> str:
    """Where records go: each call in one format to ``record``, if any; a traced one to ``traced`` too."""
    places = [(record, name, name) for name in _FORMATS if record]
    places.append((traced, "more", "traced"))
    return "".join(
        f"        access_log {place} a8_{name} buffer=64k flush=1s if=$a8_{variable};\n"
        for place, name, variable in places
    )


_FORMATS = ("plain", "more")
"""The formats; the variable of that name is set for a call of each."""
