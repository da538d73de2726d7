"""Plausible tool calls: whether an answer calls a tool, which one, and with what arguments.

A model isn't there to choose, so the prompt's hash does: half of the answers that may call a
tool do, and none that follow a tool's result, so conversations end. Arguments have the types
that the tool's schema asks for.
"""

from typing import Any, Final

import msgspec

from tidegate.simulator.openai import ChatRequest, NamedTool, Tool, ToolCall
from tidegate.simulator.text import WORDS

PIECE: Final = 4
"""Characters of the arguments in one token."""


def choose(request: ChatRequest, point: int) -> Tool | None:
    """Return the tool that the answer calls; None where it is a text.

    Args:
        request: With or without tools.
        point: The prompt's, in [0, 2**64).

    """
    tools, choice = request.tools, request.tool_choice
    if not tools or choice == "none":
        return None
    if isinstance(choice, NamedTool):
        return next((one for one in tools if one.function.name == choice.function.name), None)
    may = request.messages[-1].role != "tool" and point >> 32 & 1
    return tools[point % len(tools)] if choice == "required" or may else None


def call(tool: Tool, point: int) -> tuple[ToolCall, list[str]]:
    """Return the call and its arguments' text, a piece a token."""
    function = tool.function
    properties: dict[str, Any] = function.parameters.get("properties", {})
    required = function.parameters.get("required", list(properties))
    names = [name for name in properties if name in required]
    values = {name: _value(properties[name], point + n) for n, name in enumerate(names)}
    arguments = msgspec.json.encode(values).decode()
    pieces = [arguments[at : at + PIECE] for at in range(0, len(arguments), PIECE)]
    return ToolCall(f"chatcmpl-tool-{point:016x}", function.name), pieces


def _value(schema: dict[str, Any], point: int) -> Any:
    if "enum" in schema:
        return schema["enum"][point % len(schema["enum"])]
    match schema.get("type"):
        case "string":
            return (WORDS[point & 63] + WORDS[point >> 6 & 63]).strip()
        case "integer":
            return point % 100
        case "number":
            return point % 1000 / 10
        case "boolean":
            return bool(point & 1)
        case "array":
            return [_value(schema.get("items", {}), point)]
        case "object":
            return {name: _value(one, point) for name, one in schema.get("properties", {}).items()}
        case _:
            return None
