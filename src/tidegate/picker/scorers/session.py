"""Keep a session on one endpoint, without remembering sessions.

Rendezvous hashing (Thaler and Ravishankar, 1998): each endpoint draws a number for the session,
the highest draw is its home. All workers draw the same, a restart forgets nothing, and of a pool
that changes only the sessions of the endpoint that left move.
"""

from typing import Final
from zlib import crc32

import numpy as np

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector

_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(29)


class SessionAffinityScorer(Plugin, frozen=True):
    """1 for the endpoint where the request's session is at home, 0 for the others.

    The session is what keeps a conversation on one arm of a split: the route's session header,
    `prompt_cache_key`, `user`, or the conversation's opening. A request without one scores 0.
    """

    def score(self, candidates: Candidates) -> Vector:
        """Score by the session's draw."""
        scores = np.zeros(candidates.count)
        session = candidates.request.session
        if session is not None:
            seed = np.uint64(crc32(session) << 32 | crc32(b"session" + session))
            draws = (candidates.pool.hashes[candidates.at] ^ seed) * _ODD
            draws ^= draws >> _SHIFT
            draws *= _ODD
            scores[draws.argmax()] = 1.0
        return scores
