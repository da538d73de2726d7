"""Model names between client and endpoint: a request gets another, its answer the old one back.

In an answer only the value of a key `"model"` is replaced, wherever it stands: text can't hold
that, because quotes within JSON strings are escaped. What a piece of the answer ends with is
held back only while it may be the beginning of such a key and value; events end with a blank
line, so streams are never delayed.
"""

import json
import re
from random import Random
from typing import Final

import msgspec
from msgspec.structs import replace

from tidegate.gateway.request import Incoming
from tidegate.judge.record import Record
from tidegate.routing.split import point
from tidegate.routing.table import Rewrites

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: Final = b'"model"'
_BLANKS: Final = 8
"""Blanks between key, colon and value; nobody writes more."""
_SPACE: Final = b" \t\r\n"


def choose(
    rewrites: Rewrites, model: str, session: bytes | None, rng: Random, record: Record
) -> tuple[str, "Renamer | None"]:
    """Return the model to send for, and who puts `model` back into the answer if it's another."""
    split = rewrites.find(model)
    if split is None:
        return model, None
    draw = rng.getrandbits(64) if session is None else point(split.salt, session)
    record.split, record.target = split.scope, split.choose(draw)
    if record.target == model:
        return model, None
    return record.target, Renamer(record.target, model)


def renamed(request: Incoming, model: str) -> Incoming:
    """Return a request (its body is a JSON object) that asks for `model`.

    Every other value of the body stays as it was, to the byte. A body with keys that are no
    UTF-8 stays as a whole: its endpoint says what is wrong with it.
    """
    try:
        fields = _OBJECT.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return request
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    # Names can't be put back into a compressed answer.
    headers = [each for each in request.headers if each[0] != b"accept-encoding"]
    return replace(request, body=msgspec.json.encode(fields), headers=headers)


class Renamer:
    """Puts the client's name for a model back into one answer."""

    __slots__ = ("_held", "_new", "_pattern", "_values", "_window")

    def __init__(self, served: str, asked: str) -> None:
        """Replace `served` by `asked`."""
        self._values = _spellings(served)
        texts = b"|".join(re.escape(each) for each in self._values)
        self._pattern = re.compile(rb'("model"\s{0,8}:\s{0,8})(?:%b)' % texts)
        self._new = b"\\g<1>" + msgspec.json.encode(asked).replace(b"\\", rb"\\")
        self._window = len(_KEY) + 1 + 2 * _BLANKS + max(map(len, self._values))
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may be passed on after `data` came."""
        text = self._held + data
        done = self._pattern.sub(self._new, text)
        at = self._unsure(done)
        self._held = done[at:]
        return done[:at]

    def rest(self) -> bytes:
        """Return what was held back, at the answer's end."""
        held, self._held = self._held, b""
        return held

    def _unsure(self, text: bytes) -> int:
        """Return where the end of `text` begins that may become a name."""
        at = text.find(b'"', max(0, len(text) - self._window))
        while at >= 0:
            if self._may_begin(text[at:]):
                return at
            at = text.find(b'"', at + 1)
        return len(text)

    def _may_begin(self, text: bytes) -> bool:
        """Whether more bytes may make a key and value of `text`."""
        if len(text) <= len(_KEY):
            return _KEY.startswith(text)
        if not text.startswith(_KEY):
            return False
        text = text[len(_KEY) :].lstrip(_SPACE)
        if not text.startswith(b":"):
            return not text
        value = text[1:].lstrip(_SPACE)
        return any(len(each) > len(value) and each.startswith(value) for each in self._values)


def _spellings(name: str) -> tuple[bytes, ...]:
    """Return how servers write a name as JSON: as it is, in ASCII, with slashes escaped."""
    plain = json.dumps(name, ensure_ascii=False).encode(errors="replace")
    ascii_ = json.dumps(name).encode()
    ways = (plain, ascii_, plain.replace(b"/", rb"\/"), ascii_.replace(b"/", rb"\/"))
    return tuple(dict.fromkeys(ways))
