import pytest

from amalgam8.model.stored import LaterForm, check_form


def test_a_store_of_a_later_form_is_refused_with_who_must_be_upgraded() -> None:
    with pytest.raises(LaterForm, match=r"\(form 3; this one knows 2\): upgrade this registry$"):
        check_form(3, 2, we="this registry")


@pytest.mark.parametrize("found", [1, 2])
def test_a_store_of_a_form_that_is_known_is_taken(found: int) -> None:
    check_form(found, 2, we="this registry")
