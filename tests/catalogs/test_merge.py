"""Merging: the first layer wins, changes are exactly what has changed. Held to a simple model."""

from hypothesis import given
from hypothesis import strategies as st

from amalgam8.catalogs.merge import ById, Delta, Layer, Merged
from amalgam8.model.instance import Endpoint, Instance


def one(identity: str, value: str = "a:1", service: str = "reviews") -> Instance:
    return Instance(identity, service, Endpoint("http", value))


def layer(tenant: str, *instances: Instance) -> dict[str, ById]:
    return {tenant: {instance.id: instance for instance in instances}}


def test_what_is_new_is_told_once() -> None:
    merged = Merged(1)
    assert merged.replace(0, layer("shop", one("b"), one("a"))) == [Delta("shop", (one("a"), one("b")))]
    assert merged.replace(0, layer("shop", one("a"), one("b"))) == []


def test_changes_and_removals_are_told() -> None:
    merged = Merged(1)
    merged.replace(0, layer("shop", one("a"), one("b")))
    assert merged.replace(0, layer("shop", one("a", "new:1"))) == [
        Delta("shop", (one("a", "new:1"),), ("b",))
    ]


def test_a_tenant_that_is_not_there_any_more_has_nothing() -> None:
    merged = Merged(1)
    merged.replace(0, {**layer("shop", one("a")), **layer("web", one("a"))})
    assert merged.replace(0, layer("web", one("a"))) == [Delta("shop", (), ("a",))]
    assert list(merged.tenants()) == ["web"]


def test_an_earlier_layer_hides_and_uncovers() -> None:
    merged = Merged(2)
    first, second = one("a", "first:1"), one("a", "second:1")
    assert merged.replace(1, layer("shop", second)) == [Delta("shop", (second,))]
    assert merged.replace(0, layer("shop", first)) == [Delta("shop", (first,))]
    assert merged.hidden(1) == 1
    assert merged.hidden(0) == 0
    assert merged.replace(1, {}) == []
    merged.replace(1, layer("shop", second))
    assert merged.replace(0, {}) == [Delta("shop", (second,))]
    assert merged.hidden(1) == 0


def test_the_same_id_in_another_tenant_is_another_instance() -> None:
    merged = Merged(2)
    merged.replace(0, layer("shop", one("a", "shop:1")))
    assert merged.replace(1, layer("web", one("a", "web:1"))) == [Delta("web", (one("a", "web:1"),))]
    assert merged.hidden(1) == 0


LAYERS = 3
CONTENT = st.dictionaries(
    st.sampled_from(["shop", "web"]),
    st.lists(st.builds(one, st.sampled_from("abcd"), st.sampled_from(["x:1", "y:1"]))).map(
        lambda some: {instance.id: instance for instance in some}
    ),
)


@given(st.lists(st.tuples(st.integers(0, LAYERS - 1), CONTENT), max_size=12))
def test_it_agrees_with_a_simple_model(steps: list[tuple[int, Layer]]) -> None:
    merged = Merged(LAYERS)
    layers: list[Layer] = [{} for _ in range(LAYERS)]
    followed: dict[str, ById] = {}
    for index, content in steps:
        layers[index] = dict(content)
        for delta in merged.replace(index, content):
            assert delta.upserted or delta.removed
            mine = followed.setdefault(delta.tenant, {})
            for instance in delta.upserted:
                assert mine.get(instance.id) != instance
                mine[instance.id] = instance
            for identity in delta.removed:
                del mine[identity]
        for tenant in ("shop", "web"):
            wanted: ById = {}
            for below in reversed(layers):
                wanted |= below.get(tenant, {})
            assert dict(merged.of(tenant)) == wanted
            assert followed.get(tenant, {}) == wanted
        assert set(merged.tenants()) == {tenant for tenant in followed if followed[tenant]}
