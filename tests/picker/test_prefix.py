"""What the prefix index remembers, against a plain dictionary of who was sent what."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.picker.prefix import Blocks, PrefixIndex, PrefixSettings, block_ends

SLOTS = 20
SMALL = PrefixSettings(block_size_tokens=1, max_prefix_blocks_to_match=512)
blocks = Blocks(SMALL)
prompts = st.lists(st.sampled_from("ab"), max_size=40).map("".join)
sends = st.lists(st.tuples(st.integers(0, SLOTS - 1), prompts), max_size=30)


def chain(text, seed=1):
    return blocks.chain("".join(letter * 4 for letter in text).encode(), seed)


def index(settings=SMALL, slots=SLOTS):
    made = PrefixIndex(settings, blocks.tokens)
    made.resize(slots)
    return made


def longest(sent, text):
    """The tokens of the longest prefix of whole blocks that some prompt sent there has too."""
    shared = 0
    for end in blocks.tokens:
        if end <= len(text) and any(one[:end] == text[:end] for one in sent if len(one) >= end):
            shared = end
    return shared


@given(sends, prompts)
def test_a_match_is_the_longest_prefix_sent_to_each_endpoint(sent, asked):
    made, plain = index(), defaultdict(list)
    for slot, text in sent:
        made.note(slot, chain(text))
        plain[slot].append(text)
    matched = made.match(chain(asked))
    expected = [longest(plain[slot], asked) for slot in range(SLOTS)]
    assert matched.tolist() == expected
    assert [made.match_one(slot, chain(asked)) for slot in range(SLOTS)] == expected


@given(sends, prompts)
def test_what_is_noted_as_new_is_enough_to_tell_another_index(sent, asked):
    first, second = index(), index()
    for slot, text in sent:
        hashes = chain(text)
        start = first.note(slot, hashes)
        second.note(slot, hashes[start:], start)
    np.testing.assert_array_equal(first.match(chain(asked)), second.match(chain(asked)))


@given(st.integers(1, 300), st.integers(1, 100))
def test_only_whole_blocks_are_hashed(block, tokens):
    made = Blocks(PrefixSettings(block_size_tokens=block))
    hashes = made.chain(b"x" * tokens * 4, 1)
    assert len(hashes) == sum(end <= tokens for end in made.tokens)


def test_blocks_are_never_longer_than_a_sixteenth_of_what_is_before_them():
    ends = block_ends(64, 131_072)
    assert ends[:32] == [64 * n for n in range(1, 33)]
    assert len(ends) <= 130
    assert ends[-1] > 120_000
    assert all(b - a <= max(64, a / 15) for a, b in pairwise(ends))


@pytest.mark.parametrize("seed", [2, 3])
def test_another_seed_shares_nothing(seed):
    made = index()
    made.note(0, chain("aaaa"))
    assert not made.match(chain("aaaa", seed)).any()


def test_a_prompt_that_begins_later_in_a_body_hashes_alike():
    assert blocks.chain(b"head" + b"a" * 40, 7, 4) == blocks.chain(b"a" * 40, 7)


def test_the_match_of_an_endpoint_ends_at_the_first_block_that_it_lacks():
    made = index()
    made.note(0, chain("aaaaaa"))
    made.note(1, chain("aaabbb"))
    assert made.match(chain("aaaaaa")).tolist()[:3] == [6, 3, 0]


@settings(max_examples=15)
@given(st.lists(st.integers(0, 10_000), min_size=200, max_size=400))
def test_memory_is_bounded_by_the_servers_cache(numbers):
    made = index(PrefixSettings(block_size_tokens=1, lru_capacity_per_server=64), slots=2)
    for number in numbers:
        made.note(number % 2, chain(f"{number:020b}".replace("0", "a").replace("1", "b")))
    assert len(made) <= 2 * (64 + 2 * 20)
    assert made.prefixes <= len(made)


def test_memory_is_bounded_over_all_servers():
    made = index(PrefixSettings(block_size_tokens=1, max_entries=1024), slots=4)
    for number in range(2000):
        made.note(number % 4, [number * 10 + n for n in range(10)])
    assert len(made) <= 1024 + 4 * 2 * 10


def test_what_is_used_stays_and_what_is_not_is_forgotten():
    made = index(PrefixSettings(block_size_tokens=1, lru_capacity_per_server=100))
    made.note(0, chain("bbbbbbbb"))
    for number in range(60):
        made.note(0, chain("aaaaaaaa"))
        made.note(0, [number * 100 + n for n in range(8)])
    assert made.match_one(0, chain("aaaaaaaa")) == 8
    assert made.match_one(0, chain("bbbbbbbb")) == 0


@given(sends, st.integers(0, SLOTS - 1), prompts)
def test_a_forgotten_endpoint_holds_nothing_and_the_others_all(sent, gone, asked):
    made, plain = index(), index()
    for slot, text in sent:
        made.note(slot, chain(text))
        if slot != gone:
            plain.note(slot, chain(text))
    made.forget(gone)
    np.testing.assert_array_equal(made.match(chain(asked)), plain.match(chain(asked)))


def test_a_server_that_says_how_much_it_holds_is_believed():
    tuned, fixed = index(), index(PrefixSettings(block_size_tokens=1, auto_tune=False))
    for made in (tuned, fixed):
        made.set_capacity(0, 16)
        for number in range(10):
            made.note(0, [number * 100 + n for n in range(8)])
    assert len(tuned) < len(fixed) == 80
