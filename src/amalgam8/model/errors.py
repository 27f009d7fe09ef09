"""The one error tree.

    A8Error                       a fault of this program
    ├── InvalidInput              the caller's mistake; never stored, never retried
    │   ├── InvalidJson           the body is no JSON, or a member has the wrong type
    │   ├── InvalidRule           a rule breaks the language; one Problem per finding
    │   ├── NoRules               a rules document without rules
    │   ├── InvalidInstance       a registration that cannot be taken
    │   ├── InvalidQuery          a query parameter or filter
    │   ├── InvalidReport         a sidecar's status report
    │   ├── InvalidSetting        a flag, variable or file entry
    │   ├── MissingNamespace      an admin's request that does not say for which tenant it is
    │   └── ProtocolMismatch      the two ends speak different stream protocols
    ├── NotFound                  nothing of that name
    │   ├── RuleNotFound          no rule of that id
    │   ├── RevisionNotFound      no revision of that number, or not kept any more
    │   ├── RolloutNotFound       no rollout of that id
    │   ├── NothingToConfirm      the revision does not wait to be confirmed
    │   ├── ServiceNotFound       no instance of that service
    │   ├── InstanceNotFound      no instance of that id
    │   └── InstanceGone          the lease is not known (any more): register again
    ├── Conflict                  the state forbids it
    │   ├── RuleExists            a new rule with the id of one that is there
    │   ├── RuleElsewhere         the id belongs to a rule of another destination
    │   ├── RevisionMoved         If-Match names another revision than the present one
    │   ├── RolloutRunning        the service has one already, or this one is over
    │   ├── NoDefaultVersion      the service has no default route that a rollout could build on
    │   ├── NotEmpty              an import where there are rules or revisions already
    │   └── Superseded            somebody else wrote first
    ├── Refused                   understood, and not allowed
    │   ├── CapacityExceeded      the tenant has as many instances as it may
    │   ├── NotYourSidecar        a report without the key that the sidecar's stream gave
    │   └── NotAuthorized         no token that is known here
    │       ├── MalformedAuthorization  the Authorization header is no bearer token
    │       └── MissingAuthorization    no token, where one is needed
    ├── Limit                     more than a stated limit
    │   ├── BodyTooLarge          the request's body
    │   ├── TooManyRules          in one request, or in all
    │   ├── TooManyRollouts       that are not over
    │   ├── TooManyTenants        one more than this process serves
    │   ├── TooManyIds            in one request
    │   └── TooManyWatchers       open streams
    └── Unavailable               the other side cannot be used just now; try again
        ├── StoreUnavailable      the database
        ├── Unreachable           no answer at all
        └── BadAnswer             the other side answered something unexpected

``code`` is stable and documented; HTTP statuses stand in one table in ``amalgam8.web.errors``.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One finding in a document: where it is (a JSON path such as ``$.rules[0].priority``) and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class A8Error(Exception):
    """Root of all errors that this project raises on purpose. ``str(error)`` is fit for a person."""

    code: ClassVar[str] = "internal"
    headers: Mapping[str, str] = {}
    """Headers of an answer that tells of the error."""
    members: Mapping[str, int | str] = {}
    """Members of such an answer's body, beside those that every error has."""


class InvalidInput(A8Error):
    code = "invalid_input"


class InvalidJson(InvalidInput):
    code = "invalid_json"


class InvalidRule(InvalidInput):
    """Raised with every problem of a request at once."""

    code = "invalid_rule"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        shown = "; ".join(str(problem) for problem in self.problems[:20])
        more = len(self.problems) - 20
        super().__init__(shown + (f"; and {more} more" if more > 0 else ""))


class NoRules(InvalidInput):
    code = "no_rules_provided"


class InvalidInstance(InvalidInput):
    code = "invalid_instance"


class InvalidQuery(InvalidInput):
    code = "invalid_query"


class InvalidReport(InvalidInput):
    code = "invalid_report"


class InvalidSetting(InvalidInput):
    code = "invalid_setting"


class MissingNamespace(InvalidInput):
    code = "missing_namespace_header"


class ProtocolMismatch(InvalidInput):
    code = "protocol_mismatch"


class NotFound(A8Error):
    code = "not_found"


class RuleNotFound(NotFound):
    code = "rule_not_found"


class RevisionNotFound(NotFound):
    code = "revision_not_found"


class RolloutNotFound(NotFound):
    code = "rollout_not_found"


class NothingToConfirm(NotFound):
    code = "nothing_to_confirm"


class ServiceNotFound(NotFound):
    code = "service_not_found"


class InstanceNotFound(NotFound):
    code = "instance_not_found"


class InstanceGone(NotFound):
    code = "instance_gone"


class Conflict(A8Error):
    code = "conflict"


class RuleExists(Conflict):
    code = "rule_exists"


class RuleElsewhere(Conflict):
    code = "rule_elsewhere"


class RevisionMoved(Conflict):
    """``revision`` is the present one."""

    code = "revision_moved"

    def __init__(self, text: str, revision: int = 0) -> None:
        super().__init__(text)
        self.headers = {"ETag": f'"{revision}"'}
        self.members = {"revision": revision}


class RolloutRunning(Conflict):
    code = "rollout_running"


class NoDefaultVersion(Conflict):
    code = "no_default_version"


class NotEmpty(Conflict):
    code = "not_empty"


class Superseded(Conflict):
    code = "superseded"


class Refused(A8Error):
    code = "refused"


class CapacityExceeded(Refused):
    code = "capacity_exceeded"


class NotYourSidecar(Refused):
    code = "not_your_sidecar"


class NotAuthorized(Refused):
    code = "auth_not_authorized"


class MalformedAuthorization(NotAuthorized):
    code = "auth_header_malformed"


class MissingAuthorization(NotAuthorized):
    code = "auth_header_missing"


class Limit(A8Error):
    code = "limit"


class BodyTooLarge(Limit):
    code = "body_too_large"


class TooManyRules(Limit):
    code = "too_many_rules"


class TooManyRollouts(Limit):
    code = "too_many_rollouts"


class TooManyTenants(Limit):
    code = "too_many_tenants"


class TooManyIds(Limit):
    code = "too_many_ids"


class TooManyWatchers(Limit):
    code = "too_many_watchers"


class Unavailable(A8Error):
    code = "unavailable"


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class Unreachable(Unavailable):
    code = "unreachable"


class BadAnswer(Unavailable):
    code = "bad_answer"
