"""The data path: bytes in, one decision, bytes out.

One worker is one process with one event loop: protocols on httptools, no framework, no task a
request. `exchange.py` is the page that shows the order of things.
"""
