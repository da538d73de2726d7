"""An operator's rollout by hand: kubectl moves weights, traffic follows at once, none is lost."""

import math
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tidegate.testing.deployment import EXAMPLES, ROOT, Deployment, deployed
from tidegate.testing.traffic import traffic
from tidegate.testing.waiting import wait_until

MODEL = "example/chat-8b"
SEEDS = {
    "node": ("llm", "llm-new", MODEL),
    "base-model": ("llm-pool", "llm-pool-version-2", "food-review"),
}


def patch(stable: int, canary: int) -> str:
    return msgspec.json.encode(
        [
            {"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": stable},
            {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": canary},
        ]
    ).decode()


def set_weights(up: Deployment, stable: int, canary: int) -> None:
    up.kubectl("patch", "httproute", "routes-to-llm", "--type=json", "-p", patch(stable, canary))


def models(up: Deployment) -> set[str]:
    with socket.create_connection(("127.0.0.1", up.port)) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw = b""
        while part := connection.recv(65536):
            raw += part
    return {model["id"] for model in msgspec.json.decode(raw.partition(b"\r\n\r\n")[2])["data"]}


@pytest.mark.parametrize("example", SEEDS)
def test_the_guides_manifest_applies_verbatim_and_moves_sessions(example: str, tmp_path: Path):
    stable, canary, model = SEEDS[example]
    with deployed(tmp_path, [EXAMPLES / example]) as up:
        wait_until(lambda: model in models(up), what="the model to be listed")
        manifest = ROOT / "tests" / "api" / "seed" / f"{example}.yaml"
        ran = up.kubectl.run("apply", "-f", manifest)
        assert ran.code == 0, ran.err
        assert "spec.rules" in ran.err
        assert "InferenceGateway" in ran.err
        assert "last-applied" not in ran.err
        listed = up.kubectl("get", "httproute,inferencepool")
        assert f"{stable}=90 {canary}=10" in listed
        with traffic(up.url, 60, model) as load:
            seen = Counter(result.pool for result in load.more(400))
            total = sum(seen.values())
            assert abs(seen[canary] / total - 0.1) < 4 * math.sqrt(0.09 / total)
            up.kubectl("patch", "httproute", "routes-to-llm", "--type=json", "-p", patch(0, 100))
            assert {result.pool for result in load.more(50)} == {canary}
        assert load.failures == []


def test_kubectl_edit_moves_the_weight(node: Deployment, tmp_path: Path):
    editor = tmp_path / "editor"
    editor.write_text(
        '#!/bin/sh\nsed -i "s/weight: 0$/weight: 40/; s/weight: 100/weight: 60/" "$1"\n'
    )
    editor.chmod(0o755)
    set_weights(node, 100, 0)
    kubectl = node.kubectl
    kubectl.environment["EDITOR"] = str(editor)
    kubectl("edit", "httproute", "routes-to-llm")
    assert "llm=60 llm-new=40" in kubectl("get", "httproute", "routes-to-llm")
    set_weights(node, 100, 0)


def test_a_weight_of_0_gets_no_new_request_soon_after_kubectl_returned(node: Deployment):
    # A second is far more than the milliseconds it takes: this is no benchmark.
    with traffic(node.url, 80, MODEL) as load:
        for stable, canary, pool in ((0, 100, "llm-new"), (100, 0, "llm")) * 2:
            set_weights(node, stable, canary)
            moved = time.perf_counter()
            late = [each for each in load.more(120) if each.started_at > moved + 1]
            assert {result.pool for result in late} == {pool}
    assert load.failures == []


def test_a_long_stream_loses_no_byte_while_weights_change(node: Deployment):
    """The long version (60 s, 100 changes) is part of the chaos study."""
    body = msgspec.json.encode(
        {
            "model": MODEL,
            "stream": True,
            "max_tokens": 600,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": "Count."}],
        }
    )
    stop = threading.Event()
    changes = 0

    def change() -> None:
        nonlocal changes
        while not stop.is_set():
            changes += 1
            set_weights(node, 100 - changes % 101, changes % 101)

    changer = threading.Thread(target=change)
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        changer.start()
        try:
            raw = b""
            while part := connection.recv(65536):
                raw += part
        finally:
            stop.set()
            changer.join()
    assert changes > 10
    assert raw.count(b'"content":') >= 600
    assert b"data: [DONE]" in raw
    assert raw.endswith(b"0\r\n\r\n")
    set_weights(node, 100, 0)


def test_a_bad_manifest_is_refused_whole_and_traffic_goes_on(node: Deployment, tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        (EXAMPLES / "node" / "route.yaml").read_text().replace("weight: 100", "weight: -1")
    )
    # Not the version: a status may still be on its way, of what was changed before.
    before = node.kubectl.json("httproute", "routes-to-llm")["metadata"]["generation"]
    with traffic(node.url, 40, MODEL) as load:
        complaint = node.kubectl.fails("apply", "-f", bad)
        assert "spec.rules[0].backendRefs[0].weight" in complaint
        load.more(30)
    assert load.failures == []
    after = node.kubectl.json("httproute", "routes-to-llm")["metadata"]["generation"]
    assert before == after


def test_without_the_token_nobody_moves_traffic(node: Deployment):
    done = subprocess.run(
        [
            "curl",
            "-sk",
            f"https://127.0.0.1:{node.api_port}/apis/gateway.networking.k8s.io/v1/httproutes",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"code":401' in done.stdout.replace(" ", "")


def test_kubectl_applies_the_files_of_up_without_a_change_or_a_warning_of_its_own(node: Deployment):
    ran = node.kubectl.run("apply", "-f", EXAMPLES / "node")
    assert ran.code == 0
    assert "last-applied" not in ran.err
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    owners = [
        entry["manager"]
        for each in node.kubectl.json("modelserver", "--show-managed-fields")["items"]
        for entry in each["metadata"]["managedFields"]
        if f"f:{annotation}" in str(entry)
    ]
    # What kubectl would write is what is there, to the byte: it takes nothing over.
    assert set(owners) == {"tidegate-up"}
