import msgspec
import pytest

from amalgam8.model.errors import InvalidInstance
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.registry.eureka_change import overridden, restored, under_override, with_metadata

ONE = Instance("s:1", "s", Endpoint("tcp", "h:1"), 30, "UP", msgspec.Raw(b'{"a":"1"}'), tags=("v1",))


def test_an_override_and_back_is_what_it_was() -> None:
    over = overridden(overridden(ONE, "OUT_OF_SERVICE"), "DOWN")
    assert over.status == "DOWN"
    assert restored(over, "").status == "UP"
    assert restored(over, "STARTING").status == "STARTING"
    assert restored(ONE, "").status == "UP"


@pytest.mark.parametrize(
    ("reported", "shown"), [("UP", "OUT_OF_SERVICE"), ("DOWN", "DOWN"), ("STARTING", "STARTING")]
)
def test_what_is_registered_under_an_override(reported: str, shown: str) -> None:
    again = msgspec.structs.replace(ONE, status=reported)
    found = under_override(again, overridden(ONE, "OUT_OF_SERVICE"))
    assert found.status == shown
    assert restored(found, "").status == reported
    assert under_override(again, ONE) == again
    assert under_override(again, restored(overridden(ONE, "OUT_OF_SERVICE"), "")) == again


def test_metadata_are_merged_and_say_the_tags() -> None:
    found = with_metadata(ONE, {"b": "2"})
    assert (found.metadata, found.tags) == (msgspec.Raw(b'{"a":"1","b":"2"}'), ("v1",))
    assert with_metadata(ONE, {"amalgam8.tags": "x;y"}).tags == ("x", "y")


@pytest.mark.parametrize("metadata", [b"[1]", b'"text"', b"7"])
def test_metadata_that_are_no_object_are_left_alone(metadata: bytes) -> None:
    with pytest.raises(InvalidInstance, match="no object"):
        with_metadata(msgspec.structs.replace(ONE, metadata=msgspec.Raw(metadata)), {"a": "b"})


def test_metadata_stay_within_the_limit() -> None:
    with pytest.raises(InvalidInstance, match="1024"):
        with_metadata(ONE, {"b": "x" * 1024})
    with pytest.raises(InvalidInstance, match="tags"):
        with_metadata(ONE, {"amalgam8.tags": ",".join(map(str, range(65)))})
