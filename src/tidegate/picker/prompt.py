"""Where a request's prompt is, and what else its prefix cache depends on.

The prompt is hashed as it stands in the body: JSON that a client writes the same way each time,
and that only grows at its end while a conversation does. So nothing is decoded or copied. What
stands before the prompt in the prefix that a server caches (the tools, by most templates), and
what keeps caches apart on purpose (the model or adapter, `cache_salt`), goes into the seed.
"""

import re
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

_KEYS: Final = (b'"messages"', b'"prompt"', b'"input"')
"""Where prompts are in the bodies of chats, completions and responses. Within a JSON string
these bytes can't appear: its quotes would be escaped."""


class _Around(msgspec.Struct):
    cache_salt: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")


_AROUND: Final = msgspec.json.Decoder(_Around)
_NAMED: Final = re.compile(rb'"(?:cache_salt"|tools"|system"|instructions")\s*:')
"""Says in one pass whether a body has any of them: most have none, and needn't be decoded."""


def prompt_start(body: bytes) -> int:
    """Return where the prompt begins in a JSON body; its length where there is none."""
    for key in _KEYS:
        found = body.find(key)
        if found >= 0:
            return found + len(key)
    return len(body)


def prompt_seed(body: bytes, model: str | None) -> int:
    """Return the seed of the prompt's hashes: of all that makes equal prompts different."""
    seed = xxh3_64_intdigest(model.encode(errors="surrogatepass")) if model else 0
    if _NAMED.search(body) is None:
        return seed
    try:
        around = _AROUND.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return seed
    for name in _Around.__struct_fields__:
        seed = xxh3_64_intdigest(bytes(getattr(around, name)), seed)
    return seed
