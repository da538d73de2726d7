"""Blocks on disk: one file a rollout, appended to as blocks come, read after a restart.

A file is a row of frames (length, msgpack). What a crash left half written at its end is
passed over. Files are bounded: a full one is put aside once, and the one put aside before it
goes; of all files the newest stay.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from tidegate.judge.block import Block
from tidegate.judge.pairs import Pairs

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one file; days of a busy rollout."""
MOST_ROLLOUTS: Final = 50
_LENGTH: Final = 4


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """One rollout's blocks of one worker's parcel."""

    boot: str
    number: int
    blocks: list[Block]
    pairs: Pairs | None = None


_DECODER: Final = msgspec.msgpack.Decoder(Frame)


class Shelf:
    """A folder of such files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, uid: str, frame: Frame) -> None:
        """Keep `frame` of the rollout with this uid."""
        path = self._path(uid)
        if not path.exists():
            self._make_room()
        elif path.stat().st_size > MOST_BYTES:
            path.replace(self._aside(uid))
        data = msgspec.msgpack.encode(frame)
        with path.open("ab") as file:
            file.write(len(data).to_bytes(_LENGTH, "big") + data)

    def read(self, uid: str) -> list[Frame]:
        """Return what is kept of a rollout, the oldest first."""
        frames: list[Frame] = []
        for path in (self._aside(uid), self._path(uid)):
            with suppress(FileNotFoundError):
                frames += _frames(path.read_bytes())
        return frames

    def _make_room(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = sorted(self._folder.glob("*.blocks"), key=lambda path: path.stat().st_mtime)
        for path in files[: -MOST_ROLLOUTS + 1]:
            self._aside(path.stem).unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def _path(self, uid: str) -> Path:
        return self._folder / f"{uid}.blocks"

    def _aside(self, uid: str) -> Path:
        return self._folder / f"{uid}.older"


def _frames(data: bytes) -> Iterator[Frame]:
    at = 0
    while at + _LENGTH <= len(data):
        end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "big")
        if end > len(data):
            return
        with suppress(msgspec.MsgspecError):
            yield _DECODER.decode(data[at + _LENGTH : end])
        at = end
