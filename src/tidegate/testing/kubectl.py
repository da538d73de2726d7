"""The real kubectl, as a person runs it: a kubeconfig in the environment and no special flags."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One kubectl with a home, and so a cache, of its own."""

    binary: Path
    home: Path
    kubeconfig: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *args: str | Path, stdin: str = "", timeout_s: float = TIMEOUT_S) -> Ran:
        """Run `kubectl ARGS` to its end, whatever that is."""
        done = subprocess.run(
            [self.binary, *args],
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def __call__(self, *args: str | Path, stdin: str = "") -> str:
        """Return what a command that has to succeed printed."""
        ran = self.run(*args, stdin=stdin)
        if ran.code:
            raise AssertionError(f"kubectl {' '.join(map(str, args))}: {ran.code}\n{ran.err}")
        return ran.out

    def fails(self, *args: str | Path, stdin: str = "") -> str:
        """Return the complaint of a command that has to fail."""
        ran = self.run(*args, stdin=stdin)
        if not ran.code:
            raise AssertionError(f"kubectl {' '.join(map(str, args))} succeeded:\n{ran.out}")
        return ran.err

    def json(self, *args: str) -> Any:
        """Return what `kubectl get ARGS -o json` says."""
        return msgspec.json.decode(self("get", *args, "-o", "json"))

    @contextmanager
    def running(self, *args: str) -> Iterator[Iterator[str]]:
        """Yield the lines of a command that goes on, such as a watch; it ends with the context."""
        with subprocess.Popen(
            [self.binary, *args], env=self._environment(), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None  # asked for above
            try:
                yield iter(process.stdout)
            finally:
                process.kill()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "KUBECACHEDIR": str(self.home / "cache"),
            "KUBECONFIG": str(self.kubeconfig),
            **self.environment,
        }


def binaries() -> dict[str, Path]:
    """Return the kubectls of this machine by version: the project's own, and any other."""
    places = [Path(sys.executable).parent, *map(Path, os.environ["PATH"].split(os.pathsep))]
    found: dict[str, Path] = {}
    for place in places:
        if binary := shutil.which("kubectl", path=str(place)):
            found.setdefault(_version(binary), Path(binary))
    return found


def _version(binary: str) -> str:
    command = [binary, "version", "--client", "-o", "json"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S)
    version: str = msgspec.json.decode(done.stdout)["clientVersion"]["gitVersion"]
    return version


def kubeconfig_for(original: Path, namespace: str, where: Path) -> Path:
    """Write a copy of a kubeconfig whose commands mean `namespace`; return it."""
    config = yaml.safe_load(original.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace
    where.write_text(yaml.safe_dump(config))
    where.chmod(0o600)
    return where
