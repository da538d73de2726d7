"""What is accepted although it isn't quite right, each with a warning that names the fix.

A real API server refuses these. Manifests in the wild have them, and what is meant is plain.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tidegate.api.gateway import GROUP, HTTPRoute
from tidegate.api.inference import GROUP as INFERENCE_GROUP
from tidegate.api.inference import InferencePool
from tidegate.api.meta import Resource
from tidegate.api.scheme import LEGACY_GROUP, Kind

INFERENCE_GATEWAY: Final = (INFERENCE_GROUP, "InferenceGateway")
"""A parent's group and kind that stand for a Gateway."""


def normalise(kind: Kind, obj: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return `obj` in its proper form and a warning for each thing that wasn't.

    Of `obj` nothing is changed. What can't be understood is left for validation.
    """
    spec = obj.get("spec")
    warnings = [*_legacy(kind)]
    mend = _MENDS.get(kind.model)
    if mend is None or not isinstance(spec, dict):
        return obj, tuple(warnings)
    return {**obj, "spec": mend(spec, warnings)}, tuple(warnings)


_SUCCESSORS: Final[Mapping[str, str]] = {
    "InferencePool": f"{INFERENCE_GROUP}/v1 InferencePool",
    "InferenceModel": "llm-d.ai/v1alpha2 InferenceObjective and InferenceModelRewrite",
    "InferenceObjective": "llm-d.ai/v1alpha2 InferenceObjective",
    "InferenceModelRewrite": "llm-d.ai/v1alpha2 InferenceModelRewrite",
}


def _legacy(kind: Kind) -> list[str]:
    if kind.group != LEGACY_GROUP:
        return []
    return [f"{kind.api_version()} {kind.kind} is deprecated; use {_SUCCESSORS[kind.kind]}"]


def _mend_route(spec: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    mended = dict(spec)
    if isinstance(spec.get("rules"), dict):
        mended["rules"] = [spec["rules"]]
        warnings.append(
            "spec.rules: found one rule, expected a list of rules; it is taken as a list of "
            'one (write "- " before the rule\'s first field)'
        )
    parents = spec.get("parentRefs")
    for index, parent in enumerate(parents if isinstance(parents, list) else ()):
        if isinstance(parent, dict) and _is_inference_gateway(parent):
            warnings.append(
                f"spec.parentRefs[{index}]: kind InferenceGateway of group {INFERENCE_GROUP} is "
                f'taken as the Gateway "{parent.get("name")}" or, where there is none, as the '
                f"default listener (write group: {GROUP}, kind: Gateway)"
            )
    return mended


def _is_inference_gateway(parent: Mapping[str, Any]) -> bool:
    return (parent.get("group"), parent.get("kind")) == INFERENCE_GATEWAY


def _mend_pool(spec: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    ports = spec.get("targetPorts")
    if not isinstance(ports, list) or not any(type(port) is int for port in ports):
        return spec
    warnings.append(
        "spec.targetPorts: found bare numbers, expected mappings; each is taken as a port "
        "(write `- number: 8000`)"
    )
    mended = [{"number": port} if type(port) is int else port for port in ports]
    return {**spec, "targetPorts": mended}


_MENDS: Final[Mapping[type[Resource], Callable[[dict[str, Any], list[str]], dict[str, Any]]]] = {
    HTTPRoute: _mend_route,
    InferencePool: _mend_pool,
}
