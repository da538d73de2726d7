"""`tidegate load` as a process."""

import asyncio
import json
import sys

import pytest

COMMAND = (sys.executable, "-c", "from tidegate.cli.load import load; load()")


async def run(url: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("--url", url, "--model", "base", "--rate", "100", "--duration", "0.5", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_json_has_the_whole_report(server):
    code, out, _ = await run(f"http://{server.address}", "-o", "json", "--turns", "2")
    report = json.loads(out)
    assert code == 0
    assert report["failed"] == 0
    assert report["requests"] == 2 * report["sessions"] > 0
    assert report["ttft"]["p99"] > 0


async def test_a_table_is_for_people(server):
    code, out, _ = await run(f"http://{server.address}", "--no-stream")
    assert code == 0
    assert "0 failed" in out
    assert "first token" in out


async def test_a_failed_request_makes_the_exit_code_1(server, break_it):
    break_it(error_rate=0.5, status=503)
    code, out, _ = await run(f"http://{server.address}")
    assert code == 1
    assert "status: " in out


@pytest.mark.parametrize("arguments", [("--url", "nowhere"), ("--rate", "1e9")])
async def test_misuse_is_told_apart(arguments):
    code, _, err = await run("http://127.0.0.1:1", *arguments)
    assert code == 2
    assert "Usage" in err
