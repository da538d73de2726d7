"""The embedded API as a process: killed at any moment, started again."""

import asyncio
import itertools

import pytest

from tidegate.process.clock import now
from tidegate.store.credentials import ensure_credentials
from tidegate.testing.api import ApiProcess
from tidegate.testing.kubectl import Kubectl, binaries
from tidegate.testing.rest import ROUTES, Rest, route
from tidegate.testing.waiting import wait_for

POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p}
spec:
  selector: {matchLabels: {app: llm}}
  targetPorts: [{number: 8000}]
"""


@pytest.fixture
def api(tmp_path):
    process = ApiProcess(tmp_path / "data")
    process.start()
    yield process
    process.stop()


def client(api):
    return Rest(ensure_credentials(api.data_dir, host="127.0.0.1", port=api.port, now=now()))


def test_what_kubectl_applied_is_there_after_kill_9(api, tmp_path):
    kubectl = Kubectl(next(iter(binaries().values())), tmp_path, api.kubeconfig)
    for port in ("8000", "9000"):
        kubectl("apply", "-f", "-", stdin=POOL.replace("8000", port))
        api.kill()
        before = api.kubeconfig.read_bytes()
        api.start()
        assert api.kubeconfig.read_bytes() == before
        ports = kubectl("get", "infpool", "p", "-o", "jsonpath={.spec.targetPorts[0].number}")
        assert ports == port


async def test_no_acknowledged_write_is_lost_by_kill_9_under_load(api):
    acknowledged = set()
    rest = client(api)

    async def write(numbers):
        for number in numbers:
            try:
                reply = await rest.ask("POST", ROUTES, route(f"r{number}"))
            except (OSError, asyncio.IncompleteReadError):
                return
            if reply.code == 201:
                acknowledged.add(f"r{number}")

    numbers = itertools.count()
    writers = [asyncio.create_task(write(numbers)) for _ in range(8)]
    await wait_for(lambda: len(acknowledged) > 40, what="some writes")
    api.kill()
    await asyncio.gather(*writers)
    await asyncio.to_thread(api.start)
    found = (await rest.ask("GET", ROUTES)).json()["items"]
    assert acknowledged <= {item["metadata"]["name"] for item in found}


async def test_a_watch_goes_on_after_a_restart_where_it_was(api):
    rest = client(api)
    seen = (await rest.ask("POST", ROUTES, route("a"))).json()["metadata"]["resourceVersion"]
    await rest.ask("POST", ROUTES, route("b"))
    api.kill()
    await asyncio.to_thread(api.start)
    async with rest.watch(f"{ROUTES}?watch=1&resourceVersion={seen}") as events:
        event = await anext(events)
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "b")


def test_a_port_in_use_is_an_error_that_names_the_way_out(api, tmp_path, capfd):
    other = ApiProcess(tmp_path / "other")
    other.port = api.port
    with pytest.raises(AssertionError, match="ended with 1"):
        other.start()
    assert "choose another port with --api-port" in capfd.readouterr().err
