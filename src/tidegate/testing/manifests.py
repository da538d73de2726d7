"""Hypothesis strategies for objects of any kind, made from the kinds' schemas.

`objects` has the right shape everywhere; its meaning may be wrong (say, a filter without the
field that its type asks for). `broken` is one of them with a random value somewhere.
"""

from typing import Any

from hypothesis import strategies as st

from tidegate.api.schema import INT32, Node, node_of
from tidegate.api.scheme import Kind

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["", "/", "a", "Exact", "Gateway", "1s"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
"""Any JSON value."""

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


def objects(kind: Kind, version: str = "") -> st.SearchStrategy[dict[str, Any]]:
    """Objects of `kind` whose fields all have the right type, range and form."""
    node = node_of(kind.model)
    own = {name: each for name, each in node.fields.items() if name not in _HEAD}
    fields = {name: values(each) for name, each in own.items()}
    required = {name: each for name, each in fields.items() if name in node.required}
    optional = {name: each for name, each in fields.items() if name not in node.required}
    head = {
        "apiVersion": st.just(kind.api_version(version)),
        "kind": st.just(kind.kind),
        "metadata": st.fixed_dictionaries({"name": NAMES}),
    }
    return st.fixed_dictionaries({**head, **required}, optional=optional)


_HEAD = ("apiVersion", "kind", "metadata")


def values(node: Node) -> st.SearchStrategy[Any]:
    """Values that fit `node`."""
    if node.enum:
        return st.sampled_from(node.enum)
    match node.form:
        case "object":
            return _object(node)
        case "map":
            return st.dictionaries(
                NAMES, values(node.items or _ANY), min_size=node.min_size or 0, max_size=2
            )
        case "array":
            return _array(node)
        case "string":
            return _text(node)
        case "integer":
            low, high = int(node.minimum or 0), int(node.maximum or INT32[1])
            return st.integers(low, high)
        case "number":
            most = 1e6 if node.maximum is None else node.maximum
            return st.floats(min_value=(node.minimum or 0) + 0.5, max_value=most)
        case "boolean":
            return st.booleans()
        case "int-or-string":
            return st.integers(1, 65535) | NAMES
        case "any":
            return JSON


_ANY = Node(form="any")


def _object(node: Node) -> st.SearchStrategy[Any]:
    fields = {name: values(child) for name, child in node.fields.items()}
    return st.fixed_dictionaries(
        {name: each for name, each in fields.items() if name in node.required},
        optional={name: each for name, each in fields.items() if name not in node.required},
    )


def _array(node: Node) -> st.SearchStrategy[Any]:
    item = values(node.items or _ANY)
    low = node.min_size or 0
    if node.list_keys is None:
        return st.lists(item, min_size=low, max_size=max(low, 2))
    keys = node.list_keys
    return st.lists(
        item,
        min_size=low,
        max_size=max(low, 2),
        unique_by=lambda each: tuple(each.get(key) for key in keys) if keys else each,
    )


def _text(node: Node) -> st.SearchStrategy[str]:
    low, high = node.min_size or 0, node.max_size or 1000
    if node.regex is None:
        return st.text(
            st.characters(codec="ascii", categories=["L", "N"]), min_size=low, max_size=9
        )
    return st.from_regex(node.regex).filter(lambda text: low <= len(text) <= high)


@st.composite
def broken(draw: st.DrawFn, kind: Kind) -> dict[str, Any]:
    """Objects of `kind` with a random value in place of one of theirs, or beside them."""
    obj: dict[str, Any] = draw(objects(kind))
    holder: Any = obj
    while True:
        keys = list(range(len(holder))) if isinstance(holder, list) else sorted(holder)
        key = draw(st.sampled_from([*keys, "extra"] if isinstance(holder, dict) else keys))
        inner = holder[key] if key != "extra" else None
        if not isinstance(inner, (dict, list)) or not inner or draw(st.booleans()):
            holder[key] = draw(JSON)
            return obj
        holder = inner
