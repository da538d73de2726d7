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


async def test_a_plot_is_a_page(server, tmp_path):
    path = tmp_path / "out.html"
    code, _, err = await run(f"http://{server.address}", "--plot", str(path), "--rate", "50:200")
    assert code == 0
    assert f"wrote {path}" in err
    assert "50 to 200 requests a second" in path.read_text()


async def test_a_trace_is_replayed_at_its_speed(server, tmp_path):
    path = tmp_path / "trace.csv"
    rows = "".join(f"{n},20,{4 + n},a\n" for n in range(5))
    path.write_text("time,prompt_tokens,output_tokens,session\n" + rows)
    code, out, _ = await run(
        f"http://{server.address}", "--trace", str(path), "--speed", "10", "--duration", "100",
        "-o", "json",
    )  # fmt: skip
    report = json.loads(out)
    assert code == 0
    assert (report["requests"], report["sessions"]) == (5, 1)
    assert 0.4 < report["duration_s"] < 2
    assert report["output_tokens_per_s"] * report["duration_s"] == pytest.approx(30)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "nowhere"),
        ("--rate", "1e9"),
        ("--rate", "fast"),
        ("--rate", "0:0"),
        ("--rate", "1:2", "--arrivals", "even"),
    ],
)
async def test_misuse_is_told_apart(arguments):
    code, _, err = await run("http://127.0.0.1:1", *arguments)
    assert code == 2
    assert "Usage" in err
