"""Write the reference pages from the code that they describe.

python docs/generate.py            write docs/reference/*.md
python docs/generate.py --check    exit 1 if a page is not what the code says
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tidegate.api import errors
from tidegate.api.crds import schema
from tidegate.api.scheme import SCHEME, Kind
from tidegate.cli import main as command_line
from tidegate.gateway.reply import REASONS
from tidegate.picker.reference import plugins_page
from tidegate.telemetry.reference import metrics_page

FOLDER = Path(__file__).parent / "reference"
ROOT = Path(__file__).parent.parent


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    found = {
        FOLDER / "commands.md": "\n".join(_commands()) + "\n",
        FOLDER / "errors.md": "\n".join(_errors()) + "\n",
        FOLDER / "kinds.md": "\n".join(_kinds()) + "\n",
        FOLDER / "metrics.md": metrics_page(),
        FOLDER / "plugins.md": plugins_page(),
    }
    for kind in SCHEME:
        name = f"{kind.singular}.{kind.group}" if kind.group else kind.singular
        found[FOLDER / "kinds" / f"{name}.md"] = "\n".join(_fields(kind)) + "\n"
    return found


def _kinds() -> Iterator[str]:
    yield "# Kinds"
    yield ""
    yield "What `kubectl api-resources` lists. Each page has all fields that Tidegate reads;"
    yield "`kubectl explain KIND.FIELD` says the same."
    yield ""
    yield "| kind | group and versions | short names | scope |"
    yield "|---|---|---|---|"
    for kind in SCHEME:
        name = f"{kind.singular}.{kind.group}" if kind.group else kind.singular
        served = ", ".join(f"`{kind.api_version(version)}`" for version in kind.versions)
        short = ", ".join(kind.short_names) or "–"
        scope = "namespace" if kind.namespaced else "cluster"
        yield f"| [{kind.kind}](kinds/{name}.md) | {served} | {short} | {scope} |"


def _fields(kind: Kind) -> Iterator[str]:
    root = schema(kind, kind.storage)
    yield f"# {kind.kind}"
    yield ""
    yield f"`{kind.api_version()}`"
    yield ""
    yield root.get("description", "")
    for part in root["properties"]:
        if part not in {"apiVersion", "kind", "metadata"}:
            yield from _node(
                part, root["properties"][part], required=part in root.get("required", [])
            )


def _node(path: str, node: dict[str, Any], *, required: bool) -> Iterator[str]:
    yield ""
    yield f"## `{path}`" if "." not in path else f"### `{path}`"
    yield ""
    yield f"{_type(node)}{', required' if required else ''}{_limits(node)}"
    description = node.get("description") or node.get("items", {}).get("description")
    if description:
        yield ""
        yield description
    inner = node.get("items", node)
    suffix = "[]" if node.get("type") == "array" else ""
    for name, child in inner.get("properties", {}).items():
        yield from _node(
            f"{path}{suffix}.{name}", child, required=name in inner.get("required", [])
        )


def _type(node: dict[str, Any]) -> str:
    kind: str = node.get("type", "any")
    if kind == "array":
        return f"list of {_type(node.get('items', {}))}"
    if kind == "object" and "additionalProperties" in node:
        return f"map of string to {_type(node['additionalProperties'])}"
    return kind


def _limits(node: dict[str, Any]) -> str:
    words = {
        "default": "default",
        "enum": "one of",
        "minimum": "at least",
        "maximum": "at most",
        "minLength": "length at least",
        "maxLength": "length at most",
        "minItems": "items at least",
        "maxItems": "items at most",
        "pattern": "pattern",
    }
    inner = {**node.get("items", {}), **node} if node.get("type") == "array" else node
    return "".join(
        f", {word} `{inner[key]}`"
        for key, word in words.items()
        if key in inner and inner[key] not in ([], {}, "")
    )


def _errors() -> Iterator[str]:
    yield "# Errors"
    yield ""
    yield "## What clients of the gateway get"
    yield ""
    yield 'The body is OpenAI\'s: `{"error": {"message", "type", "param", "code"}}`; `code` is'
    yield "the reason, which the header `x-tidegate-reason` and the metrics have too. Errors of a"
    yield "model server are passed on as they are, without that header."
    yield ""
    yield "| reason | meaning |"
    yield "|---|---|"
    for reason, meaning in sorted(REASONS.items()):
        yield f"| `{reason}` | {meaning} |"
    yield ""
    yield "A rule or backend that is configured wrong answers 500 with the reason of the route's"
    yield "condition (`BackendNotFound`, `InvalidKind`, `RefNotPermitted`, …): see"
    yield "`kubectl describe httproute`."
    yield ""
    yield "## What the API and the commands say"
    yield ""
    yield "```"
    yield (errors.__doc__ or "").split("\n\n", 2)[2].rstrip()
    yield "```"


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield from _help(command_line, ("tidegate",))


def _help(command: click.Command, names: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(names), max_content_width=90)
    yield ""
    yield f"## `{' '.join(names)}`"
    yield ""
    yield "```"
    yield command.get_help(context)
    yield "```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _help(inner, (*names, name))


def main() -> int:
    """Write or check the pages."""
    stale = []
    for path, text in pages().items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path)
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for path in stale:
        verb = "is out of date: run make docs" if "--check" in sys.argv else "written"
        sys.stdout.write(f"{path.relative_to(ROOT)} {verb}\n")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
