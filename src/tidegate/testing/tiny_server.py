"""A model server small enough to start in a test, and the ModelServer that runs it.

    tiny_server.py PORT [crash] [deaf] [unwell]

`crash`: say why and exit with code 1. `deaf`: ignore SIGTERM. `unwell`: never be healthy.
`GET /be/<word>` changes a running one: `unwell`, or `busy` (it reports a request) and `idle`, or
`mute` (no metrics) and `heard`; `/env` shows the variable TINY, `/asked` how often metrics were
asked for in vain, `/slow` takes a second, `/endless` has no end.
"""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

words = set(sys.argv[2:]) if __name__ == "__main__" else set()
OPPOSITES = {"idle": "busy", "heard": "mute"}
in_vain: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        """Be what the path says, and answer."""
        if self.path.startswith("/be/"):
            word = self.path.removeprefix("/be/")
            words.add(word)
            words.discard(OPPOSITES.get(word, ""))
        if self.path == "/metrics" and "mute" in words:
            in_vain.append(self.path)
            return
        if self.path in ("/slow", "/endless"):
            self._trickle()
            return
        self.send_response(503 if self.path == "/health" and "unwell" in words else 200)
        body = self._body()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _trickle(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"first\n")
        threading.Event().wait(1.0 if self.path == "/slow" else None)
        self.wfile.write(b"last\n")

    def _body(self) -> bytes:
        if self.path == "/env":
            return os.environ.get("TINY", "").encode()
        if self.path == "/asked":
            return str(len(in_vain)).encode()
        return f"vllm:num_requests_running {int('busy' in words)}\n".encode()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


def tiny(*arguments: str, replicas: int = 1, **more: object) -> dict[str, Any]:
    """Return the spec of a ModelServer that runs this server."""
    command = [sys.executable, "-SP", __file__, "{port}", *arguments]
    health = {"periodSeconds": 0.1, "timeoutSeconds": 1.0, "failureThreshold": 2}
    return {"command": command, "replicas": replicas, "health": health, **more}


def main() -> None:
    """Serve until killed."""
    if "crash" in words:
        print("loading the model", flush=True)  # noqa: T201
        sys.exit("CUDA out of memory")
    if "deaf" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
