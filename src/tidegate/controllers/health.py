"""Ask a server whether it is well, and whether it has work.

Each question uses a connection of its own: a kept one would say that an old socket works,
not that the server takes new ones.
"""

import asyncio

from tidegate.api.errors import UnavailableError
from tidegate.scrape.engines import engine_named, read_sample
from tidegate.scrape.http import Answer, Client


class RefusedError(UnavailableError):
    """Nobody listens there."""


async def problem(address: str, path: str, timeout_s: float) -> str:
    """Return why the server isn't well, in a few words; '' where it is (it answered 200)."""
    try:
        answer = await _get(address, path, timeout_s)
    except UnavailableError as error:
        return str(error)
    return "" if answer.status == 200 else f"{path} answered {answer.status}"


async def has_work(address: str, engine: str, timeout_s: float) -> bool | None:
    """Return whether the server has requests, by its metrics; None where they don't tell.

    Raises:
        UnavailableError: It doesn't answer; `RefusedError`: it doesn't even listen.

    """
    names = engine_named(engine)
    answer = await _get(address, names.path, timeout_s)
    sample = read_sample(answer.body, names) if answer.status == 200 else None
    return None if sample is None else bool(sample.waiting or sample.running)


async def _get(address: str, path: str, timeout_s: float) -> Answer:
    client = Client(address)
    try:
        async with asyncio.timeout(timeout_s):
            return await client.get(path)
    except TimeoutError:
        raise UnavailableError(f"no answer within {timeout_s:g} s") from None
    except UnavailableError as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            raise RefusedError("connection refused") from error
        raise
    finally:
        client.close()
