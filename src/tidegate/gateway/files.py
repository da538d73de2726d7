"""How many files a worker may open: every client and every endpoint's connection is one.

Shells allow 1,024, which 500 requests under way use up; what a process may allow itself is
usually a thousand times more.
"""

import contextlib
import resource

import structlog

log = structlog.get_logger("tidegate.gateway")


def allow_files(wanted: int) -> int:
    """Raise this process's limit of open files to `wanted`, as far as it may; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return wanted
    allowed = wanted if hard == unlimited else min(wanted, hard)
    # macOS has another limit of its own, below "unlimited".
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft < wanted:
        log.warning("few files may be open", limit=soft, wanted=wanted, mend="raise ulimit -Hn")
    return soft
