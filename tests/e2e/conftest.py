"""One gateway for the tests that leave it as they found it."""

import pytest

from tidegate.testing.deployment import EXAMPLES, deployed


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory):
    """A gateway with the node example."""
    with deployed(tmp_path_factory.mktemp("node"), [EXAMPLES / "node"], "--workers", "2") as up:
        yield up
