"""Which ports a run uses: those that were asked for, else those of the last run.

So a kubeconfig, a bookmark and a Prometheus configuration stay good across restarts.
"""

from collections.abc import Callable
from contextlib import suppress

import psutil

from tidegate.controllers.ports import bind_problem, choose_port
from tidegate.process.settings import API_HOST, SettingsError


class Ports:
    """Chooses the ports of one run."""

    def __init__(self, name: str, host: str, *, ours: bool) -> None:
        """Choose for the data directory `name` and workers on `host`.

        Args:
            name: Two directories seldom look at the same free port first.
            host: Where workers bind.
            ours: Workers of an earlier run still listen. Only then may a port be in use: another
                gateway's workers would share it as well, and take a part of the requests.

        Raises:
            SettingsError: Nobody can listen on `host`.

        """
        if problem := bind_problem(host, 0, shared=True):
            raise SettingsError(
                f"--host {host}: {problem.lower()}; give an address of this machine, "
                "or 0.0.0.0 for all of them"
            )
        self._name = name
        self._host = host
        self._ours = ours
        self._chosen: set[int] = set()

    def gateway(self, asked: int | None, last: int) -> int:
        """Return the port of the default listener, which workers share."""
        return self._choose("--port", asked, last, self._shared)

    def metrics(self, asked: int | None, last: int) -> int:
        """Return the port of the metrics, which workers share."""
        return self._choose("--metrics-port", asked, last, self._shared)

    def api(self, asked: int | None, last: int) -> int:
        """Return the API's port."""
        return self._choose("--api-port", asked, last, self._alone)

    def _shared(self, port: int) -> str:
        return bind_problem(self._host, port, shared=self._ours)

    def _alone(self, port: int) -> str:
        return bind_problem(API_HOST, port, shared=False)

    def _choose(
        self, option: str, asked: int | None, last: int, problem_of: Callable[[int], str]
    ) -> int:
        """Return a port; 0 was asked for where any is good.

        Raises:
            SettingsError: The port can't be had.

        """
        port = last if asked is None else asked
        if port == 0:
            port = choose_port(self._host, f"{self._name} {option}", self._chosen)
        elif problem := problem_of(port):
            raise SettingsError(
                f"port {port}: {problem.lower()}{_owner(port)}; "
                f"choose another with {option} N, or {option} 0 for a free one"
            )
        elif port in self._chosen:
            raise SettingsError(f"{option} {port}: the port is used twice")
        self._chosen.add(port)
        return port


def _owner(port: int) -> str:
    """Return who listens there, where we may know."""
    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.pid and one.laddr and one.laddr.port == port and one.status == "LISTEN":
                return f" by {psutil.Process(one.pid).name()} (pid {one.pid})"
    return ""
