import pytest

from amalgam8.model import errors
from amalgam8.web.errors import CODES, STATUS, controller_style, registry_style, status_of


def tree(cls: type[errors.A8Error] = errors.A8Error) -> list[type[errors.A8Error]]:
    below = [one for one in cls.__subclasses__() if one.__module__ == errors.__name__]
    return [cls, *(inner for one in below for inner in tree(one))]


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_every_error_has_a_status_and_a_code_of_its_own(cls: type[errors.A8Error]) -> None:
    error = cls([]) if cls is errors.InvalidRule else cls("why")
    assert 400 <= status_of(error) < 600
    assert [one for one in tree() if one.code == cls.code] == [cls]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidQuery("x"), 400),
        (errors.NotAuthorized("x"), 401),
        (errors.CapacityExceeded("x"), 403),
        (errors.ServiceNotFound("x"), 404),
        (errors.RuleExists("x"), 409),
        (errors.InstanceGone("x"), 410),
        (errors.Superseded("x"), 412),
        (errors.BodyTooLarge("x"), 413),
        (errors.BadAnswer("x"), 502),
        (errors.TooManyWatchers("x"), 503),
        (errors.StoreUnavailable("x"), 503),
    ],
)
def test_the_nearest_line_of_the_table_counts(error: errors.A8Error, status: int) -> None:
    assert status_of(error) == status


def test_codes_of_the_http_layer_are_no_others() -> None:
    own = set(CODES.values()) - {"not_found", "internal"}
    assert not own & {cls.code for cls in tree()}
    assert set(STATUS) <= set(tree())


def test_both_shapes() -> None:
    assert registry_style("c", "t", "r") == {"Error": "t", "code": "c", "request_id": "r"}
    assert controller_style("c", "t", "r") == {
        "error": "error_c",
        "description": "t",
        "code": "c",
        "request_id": "r",
    }
