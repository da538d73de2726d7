"""The group `tidegate rollout`; its commands stand beside by what they are for."""

import click

from tidegate.cli.rollout import begin, look, steer


@click.group()
def rollout() -> None:
    """Move traffic from a stable to a canary, step by step, as long as all is well.

    \b
    Begin:   plan, lint, start
    Look:    list, get, explain, history, report
    Steer:   pause, resume, promote, abort, undo

    All of it works with kubectl, too: commands write fields of an InferenceRollout's spec and
    read its status (`kubectl explain inferencerollout.spec`).

    \b
    Exit status: 0 done, 1 failed, 2 misused, 3 the rollout was aborted or rolled back.
    """


for command in (
    begin.plan,
    begin.lint,
    begin.start,
    look.list_,
    look.get,
    look.explain,
    look.history,
    look.report,
    steer.pause,
    steer.resume,
    steer.promote,
    steer.abort,
    steer.undo,
):
    rollout.add_command(command)
