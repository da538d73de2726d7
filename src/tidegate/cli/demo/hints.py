"""What a demo says at its end: what to try next, with commands as they can be typed here."""

import shutil
import sys
from pathlib import Path


def rollouts(directory: Path) -> str:
    """Return how to let an example's rollout run; `directory` holds the example."""
    folder = _from_here(directory)
    tidegate, kubectl = _command("tidegate"), _command("kubectl")
    return f"""
Try it yourself, in three terminals:

  {tidegate} up -f {folder}
  {tidegate} load --model example/chat-8b --duration 180
  {tidegate} rollout start -f {folder / "rollout.yaml"} --wait

or with plain kubectl in the last:

  export KUBECONFIG=$HOME/.tidegate/kubeconfig
  {kubectl} apply -f {folder / "rollout.yaml"}
  {kubectl} get inferencerollouts -w

Weights moved by hand: {tidegate} demo --by-hand
"""


def by_hand(directory: Path) -> str:
    """Return how to move weights by hand; `directory` holds the example."""
    folder = _from_here(directory)
    tidegate, kubectl = _command("tidegate"), _command("kubectl")
    return f"""
Try it yourself. In one terminal:

  {tidegate} up -f {folder}

In another, with the KUBECONFIG line that it prints:

  export KUBECONFIG=$HOME/.tidegate/kubeconfig
  {kubectl} get modelservers,inferencepools,httproutes
  {kubectl} apply -f {folder / "step" / "routes-to-llm-90-10.yaml"}
  {kubectl} edit httproute routes-to-llm

  curl -i http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "example/chat-8b", "messages": [{{"role": "user", "content": "Hello"}}]}}'

  from openai import OpenAI
  OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="none").chat.completions.create(
      model="example/chat-8b", messages=[{{"role": "user", "content": "Hello"}}])
"""


def _from_here(path: Path) -> Path:
    """Return a path as short as it can be typed here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _command(name: str) -> str:
    """Return what to type for a command: its path, where only our environment has it."""
    beside = Path(sys.executable).parent / name
    if shutil.which(name) or not beside.exists():
        return name
    return str(_from_here(beside))
