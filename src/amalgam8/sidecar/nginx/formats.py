"""The access record in nginx's own words: one JSON object for each call, which nginx writes by itself.

Members are those of the original's access log, times in milliseconds; ``dst`` is the service and tags of
the instance that was called, the last one if there were several attempts, or the service alone if none
was. Only what a format cannot say, several rules or a trace, is put together in ``record.lua``.
"""

from pathlib import Path

QUICK = 100
"""Calls up to so many milliseconds have their times looked up as words, which is cheaper than a pattern."""

DEFAULTS = {
    "start": "$time_iso8601",
    "plain": "1",
    "rule": '"-"',
    "attempts": "1",
    "flags": '"-"',
    "fault": "false",
}
"""What a record says of a call of which Lua says nothing: one attempt, no rule and nothing odd."""


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


_ASKED = """\
    map $a8_asked $a8_came { "" $request_uri; default $a8_asked; }
"""
"""The path that was asked for; ``odd.lua`` asks for another one, and says which it was."""

_TIMES = (
    '"status":"$status","start_time":"$a8_start","request_time":$a8_ms,"upstream_response_time":"$a8_took",',
    '"src":"$a8_src","dst":"$a8_dst","attempts":$a8_attempts,"response_flags":"$a8_flags",',
    '"module":"NGINX","method":"$request_method","protocol":"$server_protocol","fault":$a8_fault,',
    '"upstream_host":"$upstream_addr","bytes_received":$request_length,"bytes_sent":$body_bytes_sent,',
)
"""What nginx alone knows at the end of a call, and nobody but nginx can have put in."""

_WORDS = (
    '"path":"$a8_came","user_agent":"$http_user_agent","x_forwarded":"$http_x_forwarded_for",',
    '"request_id":"$a8_id","auth":"$http_host",',
    '"message":"$request_method $a8_came $status",',
)


def formats() -> str:
    """Formats of the access record: with one rule at most, and with what Lua wrote."""
    formats = (
        ("a8_plain", "json", ("{", *_TIMES, *_WORDS, '"rules":["$a8_rule"]}')),
        ("a8_more", "none", ("{", *_TIMES, "$a8_more}")),
    )
    found = _milliseconds() + _ASKED
    for name, escape, pieces in formats:
        quoted = " ".join(f"'{piece}'" for piece in pieces)
        found += f"    log_format {name} escape={escape} {quoted};\n"
    return found


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
