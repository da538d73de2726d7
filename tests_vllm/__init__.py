"""The gateway with real vLLM behind it: `make test-vllm` and `make demo-vllm`.

Apart from the other tests, since vLLM is 2.5 GB. `scenarios` are what happens, told to a
`story`; the tests run them, and the demo shows them and writes docs/results/vllm.md.
"""
