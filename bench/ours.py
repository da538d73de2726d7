"""Our gateway as people run it, and the manifests that it serves."""

from typing import Any, Final

import yaml

from bench.backend import MODEL
from bench.processes import Cpus, Started, python
from bench.setup import Place, Running, Variant

MODEL_HEADER: Final = "X-Gateway-Model-Name"


LEAST_LOAD: Final = """
plugins:
- {type: healthy-filter}
- {type: least-load-scorer}
"""


def pool(name: str, ports: tuple[int, ...], picker: str = "") -> list[dict[str, Any]]:
    """Return an InferencePool and the ModelServer that it selects.

    `picker` is the pool's `EndpointPickerConfig`, where it isn't the default.
    """
    server = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"addresses": [f"127.0.0.1:{port}" for port in ports]},
    }
    selecting = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "targetPorts": [{"number": 8000}],
        },
    }
    if not picker:
        return [server, selecting]
    selecting["metadata"] = {
        "name": name,
        "annotations": {"tidegate.dev/picker-config": f"{name}-picker"},
    }
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-picker"},
        "data": {"picker.yaml": picker},
    }
    return [config, server, selecting]


def split(name: str, model: str) -> dict[str, Any]:
    """Return a route that splits the requests for `model` 90/10."""
    header = {"type": "Exact", "name": MODEL_HEADER, "value": model}
    path = {"type": "PathPrefix", "value": "/v1"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "tidegate"}],
            "rules": [
                {
                    "matches": [{"path": path, "headers": [header]}],
                    "backendRefs": [_ref("llm", 90), _ref("llm-new", 10)],
                }
            ],
        },
    }


def _ref(name: str, weight: int) -> dict[str, Any]:
    group = "inference.networking.k8s.io"
    return {"group": group, "kind": "InferencePool", "name": name, "weight": weight}


def manifests(
    *, routes: int, big: tuple[int, ...], small: tuple[int, ...], picker: str = ""
) -> list[dict[str, Any]]:
    """Return `routes` routes by model that split between a big and a small pool."""
    models = [MODEL] if routes == 1 else [f"model-{number}" for number in range(routes)]
    splits = [split(f"route-{number}", model) for number, model in enumerate(models)]
    return [*pool("llm", big, picker), *pool("llm-new", small, picker), *splits]


def _starting(name: str, *flags: str, picker: str = "") -> Any:
    def start(place: Place, port: int, cpus: Cpus) -> Running:
        *big, small = place.backends
        objects = manifests(routes=1, big=tuple(big), small=(small,), picker=picker)
        return serve(place, name, port, cpus, objects, *flags)

    return start


def serve(
    place: Place,
    name: str,
    port: int,
    cpus: Cpus,
    objects: list[dict[str, Any]],
    *flags: str,
) -> Running:
    """Start the gateway with one worker, serving `objects` on `port`."""
    data = place.folder / name
    data.mkdir()
    (data / "manifests.yaml").write_text(yaml.safe_dump_all(objects))
    command = python("-m", "tidegate", "up", "--workers", "1", "--data-dir", data)
    ports = ["--port", str(port), "--api-port", "0", "--metrics-port", "0"]
    started = Started(
        [*command, *ports, "-f", data / "manifests.yaml", *flags],
        cpus=cpus.gateway,
        log=place.log(name),
    )
    while started.line() != "ready\n":
        pass
    return Running(started, port)


OURS: Final = (
    Variant(
        "tidegate",
        "tidegate",
        _starting("tidegate"),
        package="tidegate",
        does="by the body's model and session: weights, pick by cached prefix and expected time,"
        " health, retries, metrics",
        peer=False,
    ),
    Variant(
        "tidegate-least-load",
        "tidegate, least load",
        _starting("tidegate-least-load", picker=LEAST_LOAD),
        package="tidegate",
        does="the same, but picks by load alone",
        peer=False,
    ),
    Variant(
        "tidegate-access-log",
        "tidegate with access log",
        _starting("tidegate-access-log", "--access-log"),
        package="tidegate",
        does="the same, and a line for each request",
        peer=False,
    ),
)
