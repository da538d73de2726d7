"""One gateway for the tests that leave it as they found it."""

from itertools import count

import pytest

from tidegate.testing.conformance import Place, namespace
from tidegate.testing.deployment import EXAMPLES, deployed
from tidegate.testing.echo import echoes

SERVERS = "abcdef"
PLACES = count(1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory):
    """A gateway with the node example."""
    with deployed(tmp_path_factory.mktemp("node"), [EXAMPLES / "node"], "--workers", "2") as up:
        yield up


@pytest.fixture(scope="session")
def conforming(tmp_path_factory: pytest.TempPathFactory):
    """The gateway that all conformance tests share, and servers that echo what they get."""
    folder = tmp_path_factory.mktemp("conformance")
    with echoes(*SERVERS) as servers, deployed(folder, (), "--workers", "2") as up:
        yield up, servers


@pytest.fixture
def place(conforming):
    """A namespace of the test's own, with a Gateway `gw` and a pool of one server for each."""
    up, servers = conforming
    one = Place(up, servers, f"place-{next(PLACES)}")
    pools = [part for name in "abc" for part in one.pool(name, name)]
    one.apply(namespace(one.namespace), one.gateway(), *pools)
    return one
