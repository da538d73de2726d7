import sys
from pathlib import Path

from tidegate.api.tidegate import EnvVar, HealthCheck, ModelServerSpec, Simulator
from tidegate.cli.simulate import simulate
from tidegate.controllers.processes import MARK
from tidegate.controllers.templates import template_of
from tidegate.simulator.settings import parse_faults


def command_of(spec: ModelServerSpec, environment: dict[str, str] | None = None):
    return template_of(spec).command(
        host="127.0.0.1",
        port=20_001,
        mark="uid/0",
        log=Path("log"),
        environment=environment or {},
    )


def test_port_and_host_are_filled_in_and_other_braces_mean_themselves():
    spec = ModelServerSpec(
        command=("serve", "--port={port}", "--host", "{host}", '{"a": {"b": "{x}"}}'),
        env=(EnvVar(name="URL", value="http://{host}:{port}"),),
    )
    made = command_of(spec)
    assert made.argv == (
        "serve", "--port=20001", "--host", "127.0.0.1", '{"a": {"b": "{x}"}}',
    )  # fmt: skip
    assert made.env["URL"] == "http://127.0.0.1:20001"


def test_a_process_inherits_our_environment_without_what_is_ours_and_is_marked():
    made = command_of(
        ModelServerSpec(command=("serve",), env=(EnvVar(name="HOME", value="/models"),)),
        {"PATH": "/bin", "HOME": "/root", "TIDEGATE_PROCESS": "x"},
    )
    assert made.env == {"PATH": "/bin", "HOME": "/models", MARK: "uid/0"}


def test_the_revision_changes_with_what_runs_and_with_nothing_else():
    spec = ModelServerSpec(command=("serve",))
    same = ModelServerSpec(
        command=("serve",), replicas=3, health=HealthCheck(path="/x"), engine="sglang"
    )
    assert template_of(spec).revision == template_of(same).revision
    others = [
        ModelServerSpec(command=("serve", "anew")),
        ModelServerSpec(command=("serve",), env=(EnvVar(name="A"),)),
        ModelServerSpec(command=("serve",), working_dir="/tmp"),
        ModelServerSpec(simulator=Simulator()),
    ]
    revisions = {template_of(other).revision for other in (spec, *others)}
    assert len(revisions) == 5


def test_the_simulators_command_is_one_that_the_simulator_understands():
    limits = {
        "max_num_seqs": 3,
        "max_model_len": 400,
        "blocks": 500,
        "max_loras": 6,
        "max_cpu_loras": 7,
    }
    simulator = Simulator(
        models=("a", "b"),
        adapters=("c",),
        seed=7,
        max_num_seqs=3,
        max_model_len=400,
        num_gpu_blocks=500,
        max_loras=6,
        max_cpu_loras=7,
        faults={"error_rate": 0.5},
    )
    argv = command_of(ModelServerSpec(simulator=simulator)).argv
    assert argv[:4] == (sys.executable, "-m", "tidegate", "simulate")
    context = simulate.make_context("simulate", list(argv[4:]))
    assert context.params["models"] == ("a", "b")
    assert context.params["adapters"] == ("c",)
    assert (context.params["port"], context.params["seed"]) == (20_001, 7)
    assert {name: context.params[name] for name in limits} == limits
    assert parse_faults(context.params["faults"]).error_rate == 0.5


def test_addresses_alone_run_nothing():
    assert not template_of(ModelServerSpec(addresses=("10.0.0.1:8000",)))
