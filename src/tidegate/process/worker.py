"""A worker process: `python -m tidegate.process.worker DATA_DIR ID`."""

import sys
from pathlib import Path

from tidegate.gateway.settings import Limits, WorkerSettings
from tidegate.gateway.worker import run
from tidegate.process.clock import now
from tidegate.process.settings import DataDir, Settings


def main(folder: str, worker: str) -> None:
    """Serve until SIGTERM, then drain."""
    data = DataDir(Path(folder))
    settings = data.read() or Settings()
    run(
        WorkerSettings(
            kubeconfig=data.kubeconfig,
            worker_id=worker,
            admin_socket=data.socket(worker),
            host=settings.host,
            metrics_port=settings.metrics_port,
            access_log=settings.access_log,
            record=Path(settings.record) if settings.record else None,
            log_format=settings.log_format,
            answer_headers=settings.answer_headers,
            trust_client_headers=settings.trust_headers,
            limits=Limits(drain_s=settings.drain_s),
        ),
        now,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
