"""What the contestants are put to, each a workload file as `tidegate fleet simulate` reads it.

Rates are such that our own scheduler is well used and not overloaded, unless overload is the
point. All servers are simulated H100s with an 8B model, unless it is said otherwise.
"""

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from tidegate.fleet.workload import Workload, parse


@dataclass(frozen=True)
class Case:
    """One workload of the study."""

    name: str
    title: str
    says: str
    """What is hard about it."""
    text: str
    prefix_heavy: bool = False
    judged: str = ""
    """The kind of traffic that contestants are compared by; '' is all."""

    def workload(self, seed: int, duration_s: int) -> Workload:
        return replace(parse(self.text.replace("LENGTH", str(duration_s))), seed=seed)


HEAD = """
duration: LENGTHs
warmup: 10s
objective: {ttft: 500ms, itl: 50ms}
"""

CASES: Final = (
    Case(
        "shared", "Shared system prompts",
        "400 system prompts of 4,000 tokens: a server's cache holds a quarter of them.",
        HEAD + """
servers: [{count: 8, profile: h100-8b}]
traffic: [{name: rag, rate: 90, system: {count: 400, tokens: 4000, skew: 0.6}, user: 150,
           answer: 120}]
""",
        prefix_heavy=True,
    ),
    Case(
        "chat", "Multi-turn chat",
        "Conversations of eight turns that grow; the next turn is cheap only where the last was.",
        HEAD + """
servers: [{count: 8, profile: h100-8b}]
traffic: [{name: chat, rate: 24, turns: 8, think: 4s, system: {count: 10, tokens: 1500},
           user: 400, answer: 200}]
""",
        prefix_heavy=True,
    ),
    Case(
        "lora", "100 LoRA adapters",
        "Skewed popularity, eight adapters a batch; a cold adapter holds the whole batch up.",
        HEAD + """
servers: [{count: 8, profile: h100-8b, maxLoras: 8}]
traffic: [{name: tuned, rate: 80, user: 500, answer: 120, adapters: {count: 100, skew: 1.0}}]
""",
    ),
    Case(
        "priorities", "Mixed priorities at 130 % load",
        "Four servers meet the objective up to 128 requests a second; 32 of priority 10, 65 of 0"
        " and 70 of -1 come.",
        HEAD.replace("ttft: 500ms", "ttft: 1s") + """
servers: [{count: 4, profile: h100-8b}]
traffic:
- {name: high, rate: 32, user: 400, answer: 300, priority: 10}
- {name: normal, rate: 65, user: 400, answer: 300, tenants: {count: 5, skew: 1}}
- {name: low, rate: 70, user: 400, answer: 300, priority: -1}
""",
        judged="high",
    ),
    Case(
        "bursty", "Bursts",
        "Six times the rate in two seconds of every ten.",
        HEAD + """
servers: [{count: 8, profile: h100-8b}]
traffic: [{name: burst, rate: 35, user: 800, answer: 150, system: {count: 40, tokens: 1000},
           burst: {factor: 6, every: 10s, length: 2s}}]
""",
    ),
    Case(
        "mixed-gpus", "Heterogeneous GPUs",
        "Four H100, four A100 and four L4 in one pool: 1 : 3 : 10 in speed.",
        HEAD + """
servers: [{count: 4, profile: h100-8b}, {count: 4, profile: a100-8b}, {count: 4, profile: l4-8b}]
traffic: [{name: chat, rate: 75, user: 800, answer: 120, system: {count: 40, tokens: 1000}}]
""",
    ),
    Case(
        "slow", "One slow server",
        "One of eight takes four times as long from the 10th second on.",
        HEAD + """
servers: [{count: 8, profile: h100-8b}]
troubles: [{at: 10s, server: 2, what: slow, factor: 4}]
traffic: [{name: chat, rate: 110, user: 800, answer: 150, system: {count: 40, tokens: 1000}}]
""",
    ),
    Case(
        "dead", "One server dies",
        "One of eight crashes in the 20th second and is back, empty, in the 35th.",
        HEAD + """
servers: [{count: 8, profile: h100-8b}]
troubles: [{at: 20s, server: 2, what: down}, {at: 35s, server: 2, what: up}]
traffic: [{name: chat, rate: 110, user: 800, answer: 150, system: {count: 40, tokens: 1000}}]
""",
    ),
    Case(
        "cold", "Cold new servers",
        "Four servers, and four more with empty caches in the 20th second.",
        HEAD + """
servers: [{count: 4, profile: h100-8b}, {count: 4, profile: h100-8b, joins: 20s}]
traffic: [{name: rag, rate: 65, system: {count: 150, tokens: 3000, skew: 0.6}, user: 150,
           answer: 120}]
""",
        prefix_heavy=True,
    ),
)  # fmt: skip

HIGH: Final = (
    HEAD.replace("ttft: 500ms", "ttft: 1s")
    + """
servers: [{count: 4, profile: h100-8b}]
traffic: [{name: high, rate: 32, user: 400, answer: 300, priority: 10}]
"""
)
"""What priority 10 is alone."""

SCALE: Final = """
duration: 180s
warmup: 10s
objective: {ttft: 500ms, itl: 50ms}
servers: [{count: 1000, profile: h100-8b}]
troubles: [{at: 30s, server: 100, what: slow}, {at: 40s, server: 500, what: down}]
traffic:
- {name: rag, rate: 4000, system: {count: 2000, tokens: 2000, skew: 0.8}, user: 300, answer: 150}
- {name: chat, rate: 1200, turns: 4, think: 5s, system: {count: 20, tokens: 800}, user: 200}
"""
"""A thousand servers; a million requests take two minutes of their time."""
