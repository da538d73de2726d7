"""A picture that draws itself as long as a context lasts, and is gone after it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live

REFRESH_PER_S: Final = 4


@contextmanager
def live(console: Console, frame: Callable[[], RenderableType], starting: str) -> Iterator[None]:
    """Draw `frame` over and over; where there is no terminal, print `starting` and no more."""
    if not console.is_terminal:
        console.print(starting)
        yield
        return
    with Live(
        get_renderable=frame, console=console, refresh_per_second=REFRESH_PER_S, transient=True
    ):
        yield
