"""A gateway with real vLLM servers: what a scenario asks for is started, and kept if it fits.

Starting a server takes most of a minute, so one deployment serves all scenarios. Each says
which servers it needs (`have`); those that run already stay, and all else begins anew:
weights, rewrites, adapters, rollouts.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests_vllm.story import Story
from tidegate.testing.deployment import ROOT, Deployment
from tidegate.testing.waiting import wait_until

HOME = Path(os.environ.get("TIDEGATE_VLLM_HOME", ROOT / ".venv-vllm"))
"""Where `make` has put vLLM and the models."""
MODELS = HOME / "models"
START_S = 600.0
"""What a server may take to start on a machine with much else to do."""

ENVIRONMENT = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": "",
}

MANIFESTS = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm}
spec: {selector: {matchLabels: {app: llm}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm-new}
spec: {selector: {matchLabels: {app: llm-new}}, targetPorts: [{number: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: routes-to-llm}
spec:
  parentRefs: [{name: tidegate}]
  rules:
  - backendRefs:
    - {group: inference.networking.k8s.io, kind: InferencePool, name: llm, weight: 100}
    - {group: inference.networking.k8s.io, kind: InferencePool, name: llm-new, weight: 0}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: tides}
spec:
  poolRef: {name: llm}
  rules:
  - matches: [{model: {value: tides}}, {model: {value: tides-load}}]
    targets: [{modelRewrite: tides-v1}]
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One vLLM server; a pool selects it by `app`."""

    app: str = "llm"
    model: str = "base"
    """A folder of the models; served as `tiny/MODEL` and as `chat`."""
    adapters: tuple[str, ...] = ("v1",)
    """Folders of the adapters that it starts with; served as `tides-ADAPTER`."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """More of vLLM's command line; '' is a flag without a value."""
    startup_s: float = START_S

    def manifest(self, name: str) -> dict[str, Any]:
        """Return its ModelServer."""
        flags = {
            "--model": str(MODELS / self.model),
            "--host": "{host}",
            "--port": "{port}",
            "--dtype": "float32",
            "--enforce-eager": "",
            "--enable-lora": "",
            "--max-loras": "2",
            "--max-lora-rank": "8",
            "--max-model-len": "1024",
            "--max-num-seqs": "16",
            **self.flags,
        }
        words = [word for pair in flags.items() for word in pair if word]
        words += ["--served-model-name", f"tiny/{self.model}", "chat"]
        if self.adapters:
            words += ["--lora-modules", *(f"tides-{one}={path_of(one)}" for one in self.adapters)]
        return {
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "ModelServer",
            "metadata": {"name": name, "labels": {"app": self.app}},
            "spec": {
                # The `vllm` command looks up a distribution of that name; the CPU build's differs.
                "command": ["nice", "-n", "5", str(HOME / "bin" / "python"), "-m",
                            "vllm.entrypoints.openai.api_server", *words],
                "workingDir": str(HOME),
                "env": [{"name": name, "value": value} for name, value in ENVIRONMENT.items()],
                "health": {"startupSeconds": self.startup_s},
                "terminationGracePeriodSeconds": 60,
            },
        }  # fmt: skip

    def but(self, **changes: Any) -> "Server":
        """Return one that differs in this."""
        return replace(self, **changes)


def path_of(adapter: str) -> Path:
    """Return where an adapter's files are."""
    return MODELS / adapter


class Place:
    """The deployment that all scenarios share."""

    def __init__(self, up: Deployment, story: Story) -> None:
        self.up = up
        self.story = story
        self.told: dict[str, int] = {}
        """The last change of each rollout that the story has."""
        self._running: dict[str, Server] = {}

    def have(self, wanted: Mapping[str, Server]) -> None:
        """Run exactly these servers, by name, and put all else back to its beginning.

        They are started one after the other: loading takes all the processor there is.
        """
        self._reset()
        for name in [name for name, one in self._running.items() if wanted.get(name) != one]:
            self.remove(name)
        for name, server in wanted.items():
            if name not in self._running:
                self.add(name, server)
        for name, server in wanted.items():
            self._restore_adapters(name, server)

    def add(self, name: str, server: Server) -> None:
        """Start a server, or another one in its place, and wait until it is ready."""
        self.apply(server.manifest(name))
        self._running[name] = server
        self.ready(name)
        self.story.say(f"ModelServer {name} is ready: {', '.join(self.models(name))}")

    def remove(self, name: str) -> None:
        """Stop a server in order."""
        self.up.kubectl("delete", "modelserver", name, "--timeout=90s")
        del self._running[name]

    def apply(self, manifest: dict[str, Any]) -> None:
        """Apply one object with kubectl."""
        self.up.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def ready(self, name: str, timeout_s: float = START_S) -> None:
        """Wait until a server is ready as its spec has it."""
        lives: set[int] = set()

        def is_ready() -> bool:
            server = self.up.kubectl.json("modelserver", name)
            status, generation = server.get("status", {}), server["metadata"]["generation"]
            lives.update(each.get("restarts", 0) for each in status.get("endpoints", ()))
            # One end is its own or the last life's; of more there will be no end.
            assert len(lives) < 3, status["conditions"]
            conditions = {each["type"]: each for each in status.get("conditions", ())}
            fresh = status.get("observedGeneration") == generation
            return fresh and conditions["Ready"]["status"] == "True"

        try:
            wait_until(is_ready, timeout_s, f"{name} to be ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(name)[-6000:]}") from None

    def log(self, name: str) -> str:
        """Return what a server said."""
        logs = sorted((self.up.folder / "data").rglob(f"*.{name}.0.log"))
        return logs[0].read_text(errors="replace") if logs else "no log"

    def endpoint(self, name: str) -> dict[str, Any]:
        """Return a server's endpoint as its status has it."""
        found: dict[str, Any] = self.up.kubectl.json("modelserver", name)["status"]["endpoints"][0]
        return found

    def address(self, name: str) -> str:
        """Return a server's `host:port`."""
        return str(self.endpoint(name)["address"])

    def models(self, name: str) -> list[str]:
        """Return what a server lists."""
        return [each["id"] for each in ask(f"http://{self.address(name)}/v1/models")["data"]]

    def adapters(self) -> dict[str, set[str]]:
        """Return the adapters that each running server lists, by its name."""
        return {
            name: {each for each in self.models(name) if each.startswith("tides-")}
            for name in self._running
        }

    def targets(self, model: str) -> list[str]:
        """Return what the gateway drew for each ended request for `model`, by its access log."""
        mark = f" model={model} target="
        lines = (line for line in self.up.log().splitlines() if mark in line)
        return [line.partition(mark)[2].partition(" ")[0] for line in lines]

    def _reset(self) -> None:
        self.told.clear()
        self.up.kubectl("delete", "inferencerollout", "--all", "--timeout=60s")
        self.up.kubectl("apply", "-f", "-", stdin=MANIFESTS)

    def _restore_adapters(self, name: str, server: Server) -> None:
        base, wanted = (
            f"http://{self.address(name)}/v1",
            {f"tides-{one}" for one in server.adapters},
        )
        listed = self.adapters()[name]
        for extra in listed - wanted:
            send(f"{base}/unload_lora_adapter", {"lora_name": extra})
        for one in server.adapters:
            if f"tides-{one}" not in listed:
                body = {"lora_name": f"tides-{one}", "lora_path": str(path_of(one))}
                send(f"{base}/load_lora_adapter", body)


def ask(url: str) -> Any:
    """Return a GET's JSON."""
    return json.loads(ask_text(url))


def ask_text(url: str) -> str:
    """Return a GET's text."""
    with urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def send(url: str, body: object) -> tuple[int, str]:
    """Return a POST's status and text, whatever they are."""
    headers = {"content-type": "application/json"}
    request = Request(url, json.dumps(body).encode(), headers)
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
