"""Lines about leases: each as it happens, and never more than can be read."""

import logging

import pytest

from amalgam8.registry.lease_log import LINES, LeaseLog
from amalgam8.registry.store import Happened, What


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def happened(what: What = "registered", reason: str = "") -> Happened:
    return Happened("t", what, "reviews", "1", "UP", reason)


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "amalgam8.registry")


def test_each_is_a_line_and_renewals_are_not(caplog: pytest.LogCaptureFixture) -> None:
    log = LeaseLog(lambda: 0.0)
    log.happened(happened())
    log.happened(happened("renewed"))
    log.happened(happened("expired", "not renewed for 31 s"))
    assert lines(caplog) == ["instance registered", "instance expired"]
    fields = caplog.records[1].a8  # type: ignore[attr-defined]
    assert fields == {"tenant": "t", "service": "reviews", "id": "1", "reason": "not renewed for 31 s"}


def test_a_flood_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = LeaseLog(lambda: now)
    for _ in range(LINES + 3000):
        log.happened(happened())
    log.happened(happened("removed"))
    assert lines(caplog) == ["instance registered"] * LINES
    now = 0.9
    log.settle()
    assert len(caplog.records) == LINES
    now = 1.0
    log.settle()
    assert caplog.records[-1].a8 == {"registered": 3000, "removed": 1}  # type: ignore[attr-defined]
    log.happened(happened())
    now = 5.0
    log.settle()
    assert lines(caplog)[LINES + 1 :] == ["instance registered"]


def test_a_freeze_is_told_in_a_flood_too(caplog: pytest.LogCaptureFixture) -> None:
    log = LeaseLog(lambda: 0.0)
    for _ in range(LINES + 10):
        log.happened(happened())
    log.happened(Happened("t", "frozen", "", "", reason="many are late"))
    assert (lines(caplog)[-1], caplog.records[-1].levelno) == ("expiry frozen", logging.WARNING)
