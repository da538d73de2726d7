"""`tidegate simulate` as a process: start, drain, end."""

import asyncio
import signal
import subprocess
import sys

import pytest

from tidegate.testing.http import connected, exchange, read_answer, request_bytes
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_for

COMMAND = (sys.executable, "-c", "from tidegate.cli.simulate import simulate; simulate()")
LONG = {"prompt": "x", "max_tokens": 60, "ignore_eos": True, "stream": True}


class Process:
    """A simulator in its own process."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.popen = subprocess.Popen(
            [*COMMAND, "--port", str(self.port), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    async def ended(self) -> int:
        await wait_for(lambda: self.popen.poll() is not None, what="the process to end")
        return self.popen.returncode

    async def running(self) -> int:
        page = (await exchange(self.port, "GET", "/metrics")).body.decode()
        line = next(one for one in page.splitlines() if one.startswith("vllm:num_requests_running"))
        return int(float(line.rpartition(" ")[2]))

    async def refuses(self) -> bool:
        try:
            async with connected(self.port):
                return False
        except ConnectionRefusedError:
            return True


@pytest.fixture
def start():
    processes = []

    def start(*arguments: str) -> Process:
        processes.append(Process(*arguments))
        assert "serving" in processes[-1].popen.stdout.readline()
        return processes[-1]

    yield start
    for one in processes:
        one.popen.kill()
        one.popen.wait()
        one.popen.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_requests_finish_and_takes_no_more(start, number):
    process = start()
    talk = asyncio.ensure_future(exchange(process.port, "POST", "/v1/completions", LONG))
    async with connected(process.port):  # an idle connection doesn't hold it up
        await wait_for(process.running, what="the request to run")
        process.signal(number)
        await wait_for(process.refuses, what="the socket to close")
        assert process.popen.poll() is None
        events = (await talk).events()
    assert len(events) == 61
    assert events[-1] == "[DONE]"
    assert await process.ended() == 0


async def test_a_second_signal_cuts_what_is_left(start):
    process = start("--time-scale", "100")
    async with connected(process.port) as (reader, writer):
        writer.write(request_bytes("POST", "/v1/completions", LONG))
        await wait_for(process.running, what="the request to run")
        process.signal()
        await wait_for(process.refuses, what="the socket to close")
        process.signal()
        assert await process.ended() == 1
        with pytest.raises(ConnectionError):
            await read_answer(reader)


async def test_the_deadline_cuts_what_is_left(start):
    process = start("--time-scale", "100", "--drain-timeout", "0.1")
    async with connected(process.port) as (_, writer):
        writer.write(request_bytes("POST", "/v1/completions", LONG))
        await wait_for(process.running, what="the request to run")
        process.signal()
        assert await process.ended() == 1


async def test_an_idle_server_ends_at_once(start):
    process = start()
    process.signal()
    assert await process.ended() == 0


def test_a_taken_port_is_an_error_that_says_so(start):
    taken = start()
    result = subprocess.run(
        [*COMMAND, "--port", str(taken.port)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"can't listen on 127.0.0.1:{taken.port}: " in result.stderr


def test_a_context_that_does_not_fit_the_cache_is_refused():
    result = subprocess.run(
        [*COMMAND, "--max-model-len", "1000000"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "max-model-len: found 1000000, expected at most 65536" in result.stderr


def test_starting_needs_no_heavy_library():
    script = (
        "import sys, tidegate.cli.simulate, tidegate.simulator.server;"
        "print([m for m in ('rich', 'lightkube', 'starlette', 'prometheus_client', 'httpx', "
        "'cryptography', 'yaml') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


async def test_a_server_that_is_out_of_memory_ends_with_its_error(start):
    process = start()
    await exchange(process.port, "POST", "/admin/faults", {"crash": "oom"})
    assert await process.ended() == 1
    assert "CUDA out of memory" in process.popen.stdout.read()


async def test_a_server_that_crashes_ends_with_1(start):
    process = start()
    await exchange(process.port, "POST", "/admin/faults", {"crash": "exit"})
    assert await process.ended() == 1
