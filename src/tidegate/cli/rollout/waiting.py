"""Follow a rollout to its end, and say how it ended in an exit code."""

import asyncio
from collections.abc import Set as AbstractSet
from contextlib import aclosing, suppress
from typing import Final

from tidegate.api.errors import NotFoundError, TidegateError
from tidegate.api.rollout import InferenceRollout, Phase
from tidegate.cli.rollout.client import Client, pause
from tidegate.cli.rollout.endpoints import look
from tidegate.cli.rollout.progress import ENDS, FAILED
from tidegate.cli.rollout.view import Screen, summary
from tidegate.rollout.plan import brief, plan_of

DONE: Final = 0
LOOK_S: Final = 1.0
"""Between two looks at the endpoints."""
ABORTED: Final = 3
"""It ended without the canary: aborted or rolled back."""


class TimedOutError(TidegateError):
    """A rollout didn't end in time; it goes on."""

    reason = "TimedOut"


async def until_over(
    client: Client,
    name: str,
    screen: Screen,
    *,
    generation: int = 0,
    ends: AbstractSet[Phase] = ENDS,
    timeout_s: float | None = None,
) -> InferenceRollout:
    """Show a rollout until it has ended; return it as it is then.

    Args:
        client: Where it is.
        name: Which.
        screen: Shows it.
        generation: An end only counts once the controller has seen this generation's spec.
        ends: The phases that count as one.
        timeout_s: How long to wait; None is for ever.

    Raises:
        NotFoundError: It was deleted.
        TimedOutError: It hasn't ended in time.

    """
    last: InferenceRollout | None = None
    looking = asyncio.ensure_future(_keep_looking(client, name, screen))
    try:
        async with (
            asyncio.timeout(timeout_s),
            aclosing(client.follow(name, screen.tell)) as changes,
        ):
            async for one in changes:
                if one is None:
                    raise NotFoundError(f"the rollout {name} was deleted")
                last = one
                screen.show(one)
                if is_over(one, generation, ends):
                    return one
    except TimeoutError as error:
        now = f" ({summary(last)})" if last is not None else ""
        raise TimedOutError(
            f"{name} hasn't ended in {brief(timeout_s or 0)}{now}; it goes on:"
            f" `tidegate rollout get {name} -w` shows it"
        ) from error
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    raise NotFoundError(f"the rollout {name} is gone")


async def _keep_looking(client: Client, name: str, screen: Screen) -> None:
    """Look at the endpoints again and again, where somebody sees it."""
    while screen.live_picture:
        with suppress(TidegateError):
            rollout = await client.get(name)
            screen.endpoints = await look(client, plan_of(rollout.spec))
        await pause(LOOK_S)


def is_over(
    rollout: InferenceRollout, generation: int = 0, ends: AbstractSet[Phase] = ENDS
) -> bool:
    """Whether a rollout has ended, with the spec of this generation."""
    return rollout.status.phase in ends and rollout.status.observed_generation >= generation


def exit_code(rollout: InferenceRollout) -> int:
    """Return the exit code that says how a rollout has ended."""
    return ABORTED if rollout.status.phase in FAILED else DONE
