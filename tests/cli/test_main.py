import subprocess
import sys

import pytest
from click.testing import CliRunner

from tidegate.api.errors import UnavailableError
from tidegate.cli import COMMANDS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidegate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_help_names_every_command_without_importing_any():
    script = (
        "import sys; sys.argv = ['tidegate', '--help']\n"
        "from tidegate.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in sys.modules if m.startswith('tidegate.cli.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert all(f"  {name}" in done.stdout for name in COMMANDS)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_can_be_imported(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"Usage: main {name}" in result.output


def test_the_version_is_printed():
    assert run("--version").stdout.startswith("tidegate, version ")


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["up", "--port", "70000"], ["up", "--log-format", "xml"]]
)
def test_misuse_is_told_in_one_line_and_exits_with_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_a_failure_is_one_line_and_exits_with_1(tmp_path):
    done = run("up", "-f", str(tmp_path / "missing.yaml"), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_cannot_be_imported_disturbs_no_other(monkeypatch):
    monkeypatch.setitem(COMMANDS, "broken", ("tidegate.cli.broken", "Not there."))
    result = CliRunner().invoke(main, ["broken"])
    assert result.exit_code == 1
    assert "broken is not available" in result.output
    assert CliRunner().invoke(main, ["up", "--help"]).exit_code == 0


def test_errors_of_ours_become_one_line(monkeypatch):
    def fail(_options: object, _print: object) -> None:
        raise UnavailableError("the API can't be reached")

    monkeypatch.setattr("tidegate.process.up.up", fail)
    result = CliRunner().invoke(main, ["up"])
    assert (result.exit_code, result.output) == (1, "Error: the API can't be reached\n")
