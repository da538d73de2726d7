"""Which endpoint of a pool serves a request: endpoints' state in, an ordered choice out.

All of it is values and pure functions: `state.fold` keeps what is known of an endpoint,
`profile.run` filters, scores and orders. It never dials, waits or reads a clock.
"""
