"""An open-loop client for OpenAI-style servers: requests start when due, whatever comes back.

Arrivals (`arrivals`, recorded ones in `trace`) start sessions, a session is a conversation of
some turns (`sessions`), a turn is one request (`client`) that ends as one `Result`. `loop` runs
them, `report` sums up, `page` shows it as HTML with `charts` of its `timeline`.
"""
