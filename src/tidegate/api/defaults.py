"""What the API server writes where a manifest says nothing.

Most defaults stand in the models and come through the schema. A few depend on other fields
of the object; those are here.
"""

import base64
from typing import Any

from tidegate.api import core
from tidegate.api.schema import fill, node_of
from tidegate.api.scheme import Kind


def apply_defaults(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """Return `obj` with its defaults; a second time changes nothing."""
    filled: dict[str, Any] = fill(node_of(kind.model), obj)
    if kind.model is core.Namespace:
        _label_namespace(filled)
    elif kind.model is core.Secret:
        _encode_secret(filled)
    elif kind.model is core.Service:
        _target_ports(filled)
    return filled


def _label_namespace(namespace: dict[str, Any]) -> None:
    """Give the namespace its name as a label, so that selectors can name it."""
    metadata = namespace.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return
    labels = metadata.get("labels", {})
    if isinstance(labels, dict):
        named = {**labels, "kubernetes.io/metadata.name": metadata["name"]}
        namespace["metadata"] = {**metadata, "labels": named}


def _encode_secret(secret: dict[str, Any]) -> None:
    """Move `stringData` into `data`; where both have a key, the text wins."""
    texts, data = secret.get("stringData"), secret.get("data", {})
    if not isinstance(texts, dict) or not isinstance(data, dict):
        return
    if all(isinstance(text, str) for text in texts.values()):
        encoded = {key: _encoded(text) for key, text in texts.items()}
        del secret["stringData"]
        secret["data"] = {**data, **encoded}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode(errors="replace")).decode()


def _target_ports(service: dict[str, Any]) -> None:
    spec = service.get("spec")
    ports = spec.get("ports") if isinstance(spec, dict) else None
    for port in ports if isinstance(ports, list) else ():
        if isinstance(port, dict) and "port" in port:
            port.setdefault("targetPort", port["port"])
