import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tidegate.controllers.ports import COUNT, FIRST, bind_problem, choose_port
from tidegate.controllers.processes import (
    MARK,
    Command,
    Process,
    SpawnError,
    last_line,
    marked,
)
from tidegate.controllers.roster import Record, Roster


def command(tmp_path: Path, *argv: str, mark: str = "", cwd: str | None = None) -> Command:
    env = {"PATH": os.environ["PATH"], **({MARK: mark} if mark else {})}
    return Command(argv, env, cwd, tmp_path / "log")


async def test_the_exit_code_and_the_output_are_kept(tmp_path):
    process = Process.spawn(command(tmp_path, "sh", "-c", "echo out; echo err >&2; exit 3"))
    assert await process.exited() == 3
    assert (tmp_path / "log").read_text() == "out\nerr\n"
    assert not process.alive()


async def test_a_signal_is_told_as_a_negative_code(tmp_path):
    process = Process.spawn(command(tmp_path, "sleep", "1000"))
    assert process.alive()
    process.send(signal.SIGKILL)
    assert await process.exited() == -signal.SIGKILL
    process.send(signal.SIGTERM)  # to nobody: the pid may be another's by now


async def test_an_adopted_process_is_watched_to_its_end(tmp_path):
    child = Process.spawn(command(tmp_path, "sleep", "1000"))
    adopted = Process.adopt(child.pid, child.created)
    assert adopted is not None
    adopted.send(signal.SIGTERM)
    assert await adopted.exited() is None
    assert await child.exited() == -signal.SIGTERM


def test_a_pid_that_is_used_again_is_not_adopted():
    us = psutil.Process()
    assert Process.adopt(us.pid, us.create_time()) is not None
    assert Process.adopt(us.pid, us.create_time() - 100) is None


@pytest.mark.parametrize(
    ("argv", "cwd", "text"),
    [
        (("no-such-program",), None, "no such program on the PATH"),
        (("/etc/passwd",), None, "Permission denied"),
        (("true",), "/no/such/folder", "is not a folder"),
    ],
)
def test_what_cannot_be_started_is_told_in_plain_words(tmp_path, argv, cwd, text):
    with pytest.raises(SpawnError, match=text):
        Process.spawn(command(tmp_path, *argv, cwd=cwd))


async def test_only_the_leader_is_found_by_its_mark(tmp_path):
    mark = f"test-{os.getpid()}/0"
    child = Process.spawn(command(tmp_path, "sh", "-c", "sleep 1000 & wait", mark=mark))
    try:
        assert marked()[mark].pid == child.pid
    finally:
        child.send(signal.SIGKILL)
        await child.exited()


async def test_the_roster_knows_survivors_and_forgets_the_dead(tmp_path):
    roster = Roster(tmp_path / "run")
    child = Process.spawn(command(tmp_path, "sleep", "1000"))
    alive = Record(uid="a", replica=0, revision="r", port=1, pid=child.pid, created=child.created)
    roster.save(alive)
    roster.save(Record(uid="b", replica=0, revision="r", port=2))
    (tmp_path / "run" / "c.0.json").write_text("{")
    assert [record for record, _ in Roster(tmp_path / "run").survivors()] == [alive]
    child.send(signal.SIGKILL)
    await child.exited()
    assert roster.survivors() == []
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"c.0.json"}


VLLMS_END = b"""
(EngineCore pid=7) ERROR 11-24 09:10:11 [core.py:1] RuntimeError: No common block size for 16
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", ""),
        (b"one\ntwo\n\n  \n", "two"),
        (b"\x1b[31mred\x1b[0m \xff\n", "[31mred[0m \ufffd"),
        (b"x" * 1000, "x" * 300),
        (b"first\n" + b"\n" * 100 + b"last" * 2, "lastlast"),
        (VLLMS_END, "RuntimeError: No common block size for 16"),
        (b"RuntimeError: See root cause above\n", "RuntimeError: See root cause above"),
    ],
)
def test_the_last_line_of_a_log_is_found_and_made_harmless(tmp_path, content, line):
    log = tmp_path / "log"
    log.write_bytes(content)
    assert last_line(log) == line


def test_ports_are_chosen_apart_free_and_outside_of_what_connections_use():
    first = choose_port("127.0.0.1", "a", set())
    assert FIRST <= first < FIRST + COUNT
    assert choose_port("127.0.0.1", "a", {first}) != first
    with socket.create_server(("127.0.0.1", first)):
        assert choose_port("127.0.0.1", "a", set()) != first


def test_a_shared_port_is_no_problem_for_who_shares_it():
    with socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(("127.0.0.1", 0))
        worker.listen()
        port = worker.getsockname()[1]
        assert bind_problem("127.0.0.1", port, shared=True) == ""
        assert bind_problem("127.0.0.1", port, shared=False) == "Address already in use"
