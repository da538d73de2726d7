"""The processes of one machine, and the only place where everything is put together.

    up (supervisor) ─┬─ control: API, controllers ── model servers
                     └─ worker …: data plane

Invariant: any of them may be killed at any moment; the others go on, and the next start
finds the rest.
"""
