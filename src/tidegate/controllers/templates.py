"""What a ModelServer's replicas run: a pure function of its spec.

Two templates with the same revision run the same thing; a replica of another revision has to
be restarted.
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tidegate.api.tidegate import HealthCheck, ModelServerSpec, Simulator
from tidegate.controllers.processes import MARK, Command

OURS: Final = "TIDEGATE_"
"""Variables of our own processes, which are no business of theirs."""


@dataclass(frozen=True, slots=True)
class Template:
    """What a replica runs, and how it is treated."""

    argv: tuple[str, ...]
    """Empty where nothing is run: the spec names addresses."""
    env: tuple[tuple[str, str], ...]
    cwd: str | None
    engine: str
    health: HealthCheck
    grace_s: float
    """How long it may finish its requests when it is stopped."""

    def __bool__(self) -> bool:
        return bool(self.argv)

    @property
    def revision(self) -> str:
        """Changes when the processes have to be started anew."""
        text = msgspec.json.encode((self.argv, self.env, self.cwd))
        return hashlib.sha256(text).hexdigest()[:12]

    def command(
        self, *, host: str, port: int, mark: str, log: Path, environment: Mapping[str, str]
    ) -> Command:
        """Return the command for one process.

        Args:
            host: What `{host}` stands for.
            port: What `{port}` stands for.
            mark: By which the process can be found again.
            log: Where its output goes.
            environment: Ours, which the process inherits.

        """
        return Command(
            argv=tuple(_filled(part, host, port) for part in self.argv),
            env={
                **{name: value for name, value in environment.items() if not _is_ours(name)},
                **{name: _filled(value, host, port) for name, value in self.env},
                MARK: mark,
            },
            cwd=self.cwd,
            log=log,
        )


def template_of(spec: ModelServerSpec) -> Template:
    """Return what the spec's replicas run."""
    return Template(
        argv=spec.command or (_simulate(spec.simulator, spec) if spec.simulator else ()),
        env=tuple((variable.name, variable.value) for variable in spec.env),
        cwd=spec.working_dir,
        engine=spec.engine,
        health=spec.health,
        grace_s=spec.termination_grace_period_seconds,
    )


def _simulate(simulator: Simulator, spec: ModelServerSpec) -> tuple[str, ...]:
    options = [("--host", "{host}"), ("--port", "{port}")]
    options += [("--model", model) for model in simulator.models]
    options += [("--lora-module", adapter) for adapter in simulator.adapters]
    options += [
        ("--profile", simulator.profile),
        ("--seed", str(simulator.seed)),
        ("--time-scale", f"{simulator.time_scale:g}"),
        ("--drain-timeout", f"{spec.termination_grace_period_seconds:g}"),
    ]
    limits = {
        "--max-num-seqs": simulator.max_num_seqs,
        "--max-model-len": simulator.max_model_len,
        "--num-gpu-blocks": simulator.num_gpu_blocks,
        "--max-loras": simulator.max_loras,
        "--max-cpu-loras": simulator.max_cpu_loras,
    }
    options += [(name, str(limit)) for name, limit in limits.items() if limit is not None]
    if simulator.faults:
        options.append(("--faults", msgspec.json.encode(simulator.faults).decode()))
    words = (word for option in options for word in option)
    return (sys.executable, "-m", "tidegate", "simulate", *words)


def _filled(text: str, host: str, port: int) -> str:
    # Not str.format: commands carry JSON, whose braces mean themselves.
    return text.replace("{port}", str(port)).replace("{host}", host)


def _is_ours(name: str) -> bool:
    return name.startswith(OURS)
