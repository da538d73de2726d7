"""One gateway for the tests that leave it as they found it."""

from itertools import count

import pytest

from tidegate.testing.conformance import Place, Suite, namespace, suite
from tidegate.testing.deployment import EXAMPLES, deployed

SERVERS = "abcdef"
PLACES = count(1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory):
    """A gateway with the node example."""
    with deployed(tmp_path_factory.mktemp("node"), [EXAMPLES / "node"], "--workers", "2") as up:
        yield up


@pytest.fixture(scope="session")
def conformance(tmp_path_factory: pytest.TempPathFactory):
    """The gateway that all conformance tests share, and servers that echo what they get."""
    with suite(tmp_path_factory.mktemp("conformance"), *SERVERS) as shared:
        yield shared


@pytest.fixture
def place(conformance: Suite):
    """A namespace of the test's own, with a Gateway `gw` and pools `a`, `b`, `c` of one server."""
    one = Place(conformance, f"place-{next(PLACES)}")
    pools = [part for name in "abc" for part in one.pool(name, name)]
    one.ready_made = [namespace(one.namespace), one.gateway(), *pools]
    yield one
    one.close()
