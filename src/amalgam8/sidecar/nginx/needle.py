"""A text without which a pattern cannot be found: looked for first, since that costs far less.

Only what is plain to see counts: letters and the like in a row, outside of alternatives and of whatever
may be absent. Gives no text rather than a doubtful one.
"""

import re

LEAST = 3
"""Shorter ones are found almost everywhere."""

_TOKEN = re.compile(
    r"(?P<open>\((?:\?:|\?P?<\w+>)?(?!\?))"
    r"|(?P<close>\))"
    r"|(?P<plain>[A-Za-z0-9 _=;,:/@%&\"'<>~!#-]|\\[.^$*+?()\[\]{}|\\/-])"
    r"|(?P<other>\.|\^|\$|\[\^?[A-Za-z0-9 _=;,:/@%&.-]+\]|\\[dDsSwWbB])"
)
_REPEAT = re.compile(r"[*+?]\??|\{[0-9]+(?:,[0-9]*)?\}\??")
_ABSENT = re.compile(r"[*?]|\{0")


def needle(pattern: str) -> str:
    """The longest such text of a pattern that RE2 takes, in ASCII; empty where there is none."""
    runs = _required(pattern)
    longest = max(runs or [""], key=len)
    return longest if len(longest) >= LEAST else ""


def _required(pattern: str) -> list[str]:
    """Texts that every match has; none for a pattern with something that is not known here."""
    groups: list[list[str]] = [[""]]  # the runs of each group that is open, the outermost first
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            return []  # an alternative, a flag, a class: left to the engine
        at = token.end()
        kind = token.lastgroup
        if kind == "open":
            groups.append([""])
            continue
        repeat = _REPEAT.match(pattern, at)
        at = repeat.end() if repeat else at
        absent = repeat is not None and _ABSENT.match(repeat.group()) is not None
        if kind == "close":
            inner = groups.pop()
            if not groups:
                return []
            groups[-1] += [*([] if absent else inner), ""]
        elif kind == "plain" and not absent:
            groups[-1][-1] += token.group()[-1]
            if repeat:
                groups[-1].append("")
        else:
            groups[-1].append("")
    return groups[0] if len(groups) == 1 else []
