"""The reference page of the plugins, made from the tables that configs are read by."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tidegate.api.docs import docs_of
from tidegate.picker import config
from tidegate.picker.filters import FILTERS
from tidegate.picker.pickers import PICKERS
from tidegate.picker.prefix import PrefixSettings
from tidegate.picker.scorers import SCORERS

_GROUPS: Final[tuple[tuple[str, str, Mapping[str, type[msgspec.Struct]]], ...]] = (
    ("Filters", "Who may serve. They run in the order in which the profile names them.", FILTERS),
    (
        "Scorers",
        "How good each endpoint is: from 0 to 1, times the weight that the profile gives it.",
        SCORERS,
    ),
    ("Pickers", "Who is taken, by the sums of the scores. A profile has at most one.", PICKERS),
    (
        "Roles",
        "Pairs of an endpoint that computes the prompt and one that answers.",
        config.HANDLERS,
    ),
    ("Deciders", "Whether there is a pair.", config.DECIDERS),
    ("Producers", "Settings of what scorers share.", {config.PRODUCER: PrefixSettings}),
)


def plugins_page() -> str:
    """Return the page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Plugins of the endpoint picker"
    yield ""
    yield "What an `EndpointPickerConfig` can name, by `type`. How a pool gets one, and how to tune"
    yield "it: [Endpoint picking](../picking.md). Health and the requested model are filtered"
    yield "(`healthy-filter`, `model-filter`) whether a profile names that or not."
    for title, text, table in _GROUPS:
        yield ""
        yield f"## {title}"
        yield ""
        yield text
        for kind, plugin in table.items():
            yield from _plugin(kind, plugin)
    yield from _others()


def _plugin(kind: str, plugin: type[msgspec.Struct]) -> Iterator[str]:
    docs = docs_of(plugin)
    yield ""
    yield f"### `{kind}`"
    yield ""
    yield docs.text
    fields = msgspec.structs.fields(plugin)
    if not fields:
        return
    yield ""
    yield "| parameter | type | default | |"
    yield "|---|---|---|---|"
    for field in fields:
        text = " ".join(docs.fields.get(field.name, "").split())
        yield f"| `{field.encode_name}` | {_type(field.type)} | {_default(field)} | {text} |"


def _others() -> Iterator[str]:
    yield ""
    yield "## Accepted without effect"
    yield ""
    yield "Upstream's plugins for what is always done here. They may stand in a config, with any"
    yield "parameters:"
    yield ""
    yield ", ".join(f"`{kind}`" for kind in sorted(config.NOT_NEEDED)) + "."


def _type(kind: Any) -> str:
    schema = msgspec.json.schema(kind)
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    names = [one["type"] for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    limits = [f"≥ {schema['minimum']}"] if "minimum" in schema else []
    limits += [f"> {schema['exclusiveMinimum']}"] if "exclusiveMinimum" in schema else []
    limits += [f"≤ {schema['maximum']}"] if "maximum" in schema else []
    limits += [f"< {schema['exclusiveMaximum']}"] if "exclusiveMaximum" in schema else []
    return ", ".join(["/".join(names), *limits])


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    made = field.default_factory
    value = field.default if made is msgspec.NODEFAULT else made()
    plain = msgspec.to_builtins(value)
    return "none" if plain is None else f"`{msgspec.json.encode(plain).decode()}`"
