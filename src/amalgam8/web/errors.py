"""Which HTTP status an error is, in one table, and the two shapes of error bodies.

Wire format: the registry answers ``{"Error": text}``, the controller ``{"error": id, "description": text}``;
both add ``code`` and ``request_id``.
"""

from collections.abc import Callable

from amalgam8.model import errors

STATUS: dict[type[errors.A8Error], int] = {
    errors.A8Error: 500,
    errors.InvalidInput: 400,
    errors.NotFound: 404,
    errors.InstanceGone: 410,
    errors.Conflict: 409,
    errors.Superseded: 412,
    errors.RevisionMoved: 412,
    errors.Refused: 403,
    errors.NotAuthorized: 401,
    errors.Limit: 413,
    errors.TooManyWatchers: 503,
    errors.TooManyTenants: 503,
    errors.Unavailable: 503,
    errors.BadAnswer: 502,
}
"""The status of each class and of those below it that have no line of their own."""

CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    415: "unsupported_media_type",
    500: "internal",
}
"""Codes of refusals that no error class stands for: the HTTP layer's own."""

Body = dict[str, str]
ErrorStyle = Callable[[str, str, str], Body]
"""(code, text, request id) → the body of an error answer."""


def status_of(error: errors.A8Error) -> int:
    """The status of the nearest class in the table."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def registry_style(code: str, text: str, request_id: str) -> Body:
    return {"Error": text, "code": code, "request_id": request_id}


def controller_style(code: str, text: str, request_id: str) -> Body:
    # The original's ids have this prefix, all but one; our codes are the same words without it.
    identity = code if code == errors.MissingNamespace.code else f"error_{code}"
    return {"error": identity, "description": text, "code": code, "request_id": request_id}
