"""What sidecars and the controller say of budgets, and what no sidecar would say."""

import msgspec
import pytest

from amalgam8.model.slices import BUDGETS_LIMIT, SliceReport, Slices, Wanted, problem


def test_the_wire() -> None:
    report = SliceReport("k", "e", (Wanted("limit/0", 12.5, 7, 0.1),))
    encoded = msgspec.json.encode(report)
    assert encoded == b'{"key":"k","epoch":"e","budgets":[["limit/0",12.5,7,0.1]]}'
    assert msgspec.json.decode(encoded, type=SliceReport) == report
    assert problem(report) is None
    assert msgspec.json.decode(b"{}", type=Slices) == Slices()


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("x" * 257, 0, 0, 0),
        Wanted("b", -1, 0, 0),
        Wanted("b", 1e13, 0, 0),
        Wanted("b", float("nan"), 0, 0),
        Wanted("b", 0, -1, 0),
        Wanted("b", 0, 2**60, 0),
        Wanted("b", 0, 0, -0.1),
        Wanted("b", 0, 0, float("inf")),
    ],
)
def test_what_is_refused(wanted: Wanted) -> None:
    assert "budgets[1]" in str(problem(SliceReport("k", "e", (Wanted("b", 0, 0, 0), wanted))))


def test_there_is_a_limit() -> None:
    assert problem(SliceReport("k", "e", (Wanted("b", 0, 0, 0),) * (BUDGETS_LIMIT + 1)))
