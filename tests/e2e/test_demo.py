"""`tidegate demo` as people run it, only shorter."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

COMMAND = (sys.executable, "-m", "tidegate", "demo")
BY_HAND = ("--by-hand", "--rate", "100", "--sessions", "60")


class Demo:
    """A running demo whose files all lie in one folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.popen = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(folder), "HOME": str(folder)},
        )

    def until(self, text: str) -> None:
        for line in self.popen.stdout:
            if text in line:
                return
        raise AssertionError(f"it ended with {self.popen.wait()} and never said {text!r}")

    def result(self) -> tuple[int, str]:
        output, _ = self.popen.communicate(timeout=100)
        return self.popen.returncode, output

    def leftovers(self) -> list[str]:
        """Return the commands of processes that have its folder in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == str(self.folder):
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def assert_gone(self) -> None:
        assert self.leftovers() == []
        assert list(self.folder.glob("tidegate-demo-*")) == []


@pytest.fixture
def start():
    demos = []

    with tempfile.TemporaryDirectory(prefix="demo-") as folder:  # short: Unix sockets lie below

        def start(*arguments: str) -> Demo:
            demos.append(Demo(Path(folder), *arguments))
            return demos[-1]

        yield start
        for one in demos:
            if one.popen.poll() is None:
                one.popen.send_signal(signal.SIGTERM)
                one.popen.communicate(timeout=60)


def test_the_demo_loses_nothing_keeps_its_shares_and_leaves_nothing(start):
    demo = start(*BY_HAND)
    code, output = demo.result()
    assert code == 0, output
    assert "requests, 0 failed." in output
    assert output.count("in effect after") == 4
    assert output.count("exact") >= 3
    for what_next in ("tidegate up -f", "export KUBECONFIG=", "kubectl apply", "curl", "OpenAI("):
        assert what_next in output
    demo.assert_gone()


@pytest.mark.parametrize(
    ("number", "arguments", "begun", "servers"),
    [(signal.SIGINT, BY_HAND, "before:", 4), (signal.SIGTERM, (), "new nodes", 6)],
    ids=["by hand", "by itself"],
)
def test_an_interrupted_demo_leaves_nothing(start, number, arguments, begun, servers):
    demo = start(*arguments)
    demo.until(begun)
    assert sum("simulate" in one for one in demo.leftovers()) == servers
    demo.popen.send_signal(number)
    code, output = demo.result()
    assert code == 130
    assert output.endswith("interrupted; everything is stopped\n")
    demo.assert_gone()


def test_a_gateway_that_cannot_start_is_shown_with_its_log(start, tmp_path):
    manifest = tmp_path / "broken.yaml"
    manifest.write_text("apiVersion: v1\nkind: Nothing\nmetadata: {name: x}\n")
    demo = start("--by-hand", "-f", str(manifest))
    code, output = demo.result()
    assert code == 1
    assert "Nothing" in output
    demo.assert_gone()
