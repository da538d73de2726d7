"""Who goes next when there is more than the servers can take.

A request that finds room goes on at once and costs a comparison. Else it waits in the queue of
its priority (`control`): higher priorities strictly first, tenants of one priority fairly
(`fair`), each queue bounded in requests, bytes and time. What "room" means is `room`'s, how much
of everything `settings`'. Nothing here waits or reads a clock: callers ask whose turn it is when
something ended, and bring the time along.
"""
