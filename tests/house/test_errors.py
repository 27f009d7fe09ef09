"""The error tree: stable codes, each with a status, each drawn in the module's docstring."""

from collections.abc import Iterator

from amalgam8.model import errors
from amalgam8.web.errors import status_of


def tree(cls: type[errors.A8Error] = errors.A8Error) -> Iterator[type[errors.A8Error]]:
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


def test_codes_are_distinct() -> None:
    codes = [cls.code for cls in tree()]
    assert len(codes) == len(set(codes))


def test_every_class_is_drawn() -> None:
    assert errors.__doc__
    drawn = set(errors.__doc__.replace(",", " ").split())
    assert {cls.__name__ for cls in tree()} <= drawn


def test_every_class_has_a_status() -> None:
    for cls in tree():
        error = cls([]) if cls is errors.InvalidRule else cls("text")
        assert 400 <= status_of(error) < 600
