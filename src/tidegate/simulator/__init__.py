"""A simulated model server that speaks vLLM's HTTP API.

The engine is a pure model of continuous batching: it takes times and gives times, so it runs
on the event loop's timers (`driver`), and in virtual time as one of many (`fleet`). How long
things take comes from `profiles`, made of data sheets in `hardware`; KV blocks are counted in
`kv`, LoRA adapters in `adapters`. Around it are an OpenAI face (`openai`, `generation`), vLLM's
metric names (`metrics`), faults that can be switched on while it runs (`faults`), and a small
HTTP server (`http`, `server`).
"""
