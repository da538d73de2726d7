"""TLS contexts for the listeners of one port, chosen by SNI and exchanged without a restart."""

import ssl
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tidegate.routing.table import Certificate

SNI = "tidegate_sni"
"""Attribute of a connection's SSLObject: the name that the client asked for, in lower case, or
None."""


class PortContexts:
    """The certificates of one port. `base` stays the same while they change."""

    def __init__(self) -> None:
        self.base = _server_context()
        self.base.sni_callback = self._choose
        self._exact: dict[str, ssl.SSLContext] = {}
        self._source: Mapping[str, tuple[Certificate, ...]] = {}

    def update(self, certificates: Mapping[str, tuple[Certificate, ...]]) -> None:
        """Serve these, by hostname pattern ('' = any); what is connected keeps what it has.

        Raises:
            ssl.SSLError: A chain and a key don't fit. The ones before stay.

        """
        if certificates == self._source:
            return
        self._exact = {host: _context(chains) for host, chains in certificates.items()}
        self._source = dict(certificates)

    def _choose(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        name = name.lower() if name is not None else None
        setattr(connection, SNI, name)
        found = self._find(name or "")
        if found is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = found
        return None

    def _find(self, name: str) -> ssl.SSLContext | None:
        if name in self._exact:
            return self._exact[name]
        dot = name.find(".")
        while dot >= 0:
            if f"*{name[dot:]}" in self._exact:
                return self._exact[f"*{name[dot:]}"]
            dot = name.find(".", dot + 1)
        return self._exact.get("")


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _context(certificates: Sequence[Certificate]) -> ssl.SSLContext:
    context = _server_context()
    for certificate in certificates:
        # The ssl module takes files only. The folder is ours alone (0700) and goes at once.
        with tempfile.TemporaryDirectory() as folder:
            chain, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
            chain.write_bytes(certificate.chain)
            key.write_bytes(certificate.key)
            context.load_cert_chain(chain, key)
    return context
