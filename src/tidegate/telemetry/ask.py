"""Ask a process of ours at its Unix socket: a GET of its own connection, the body back."""

import asyncio
from pathlib import Path


async def ask(socket: Path, target: str) -> bytes:
    """Return the body of a 200 from a worker's socket.

    Raises:
        OSError: Nobody listens there.
        EOFError: It ended before its answer did.
        ValueError: Another status; its text is the body.

    """
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()
    finally:
        writer.close()
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(body.decode(errors="replace"))
    return body
