"""Whatever comes in, admission answers with an object that decodes or with an error of ours."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.api.errors import TidegateError
from tidegate.api.meta import Resource
from tidegate.api.schema import node_of
from tidegate.api.scheme import LEGACY_GROUP, SCHEME, Kind, by_model
from tidegate.api.structure import Check
from tidegate.api.validate import admit
from tidegate.api.versions import decode, upgrade
from tidegate.testing.manifests import JSON, broken, objects

KINDS = pytest.mark.parametrize("kind", SCHEME, ids=str)
FEW = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def admitted(kind: Kind, obj: dict, strict: str = "Strict") -> dict | None:
    try:
        return admit(kind, kind.storage, obj, strict=strict).obj
    except TidegateError as refused:
        str(refused).encode()  # it can be written
        return None


@KINDS
@FEW
@given(data=st.data())
def test_random_values_are_admitted_or_refused(kind: Kind, data: st.DataObject):
    head = {"apiVersion": kind.api_version(), "kind": kind.kind}
    whole = data.draw(
        st.dictionaries(st.sampled_from(["metadata", "spec", "status", "data"]), JSON)
    )
    admitted(kind, {**head, **whole}, data.draw(st.sampled_from(["Strict", "Warn", "Ignore"])))


@KINDS
@FEW
@given(data=st.data())
def test_what_is_admitted_decodes_and_stays_as_it_is(kind: Kind, data: st.DataObject):
    obj = admitted(kind, data.draw(broken(kind)), "Ignore")
    if obj is not None:
        assert isinstance(decode(obj), kind.model)
        assert admitted(kind, obj) == obj


@KINDS
@FEW
@given(data=st.data())
def test_objects_of_the_right_shape_have_it_and_decode(kind: Kind, data: st.DataObject):
    obj = data.draw(objects(kind))
    shape = Check()
    assert shape.walk(node_of(kind.model), obj, "")
    assert shape.errors == []
    assert isinstance(decode(obj), kind.model)


CHANGED = [
    kind
    for kind in SCHEME
    if kind.group == LEGACY_GROUP or kind.kind in ("HTTPRoute", "ReferenceGrant")
]


@pytest.mark.parametrize("kind", CHANGED, ids=str)
@FEW
@given(data=st.data())
def test_what_is_upgraded_is_of_the_newest_kinds_and_valid(kind: Kind, data: st.DataObject):
    obj = admitted(kind, data.draw(objects(kind)))
    if obj is None:
        return
    for resource in upgrade(decode(obj)):
        newest = by_model(type(resource))
        assert newest.group != LEGACY_GROUP
        assert resource.api_version == newest.api_version()
        assert (resource.kind, resource.key) == (newest.kind, decode(obj).key)
        assert admitted(newest, wire(resource)) is not None


def wire(resource: Resource) -> dict:
    """Return a resource as JSON, with the fields that the model leaves out at their defaults."""
    return msgspec.to_builtins(resource)
