"""Who may speak to the embedded API: a certificate authority, a certificate, a token, a kubeconfig.

Everything lies in the data directory and is made once: a restart keeps what it finds, so a
kubeconfig handed out earlier stays valid. Whoever can read the files (mode 0600) may use the
API; nobody else can, because kubectl sends the token over TLS only.

    <data-dir>/kubeconfig
    <data-dir>/pki/{ca.crt,ca.key,server.crt,server.key,token}
"""

import base64
import contextlib
import datetime as dt
import ipaddress
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tidegate.api.errors import TidegateError

NAME: Final = "tidegate"
"""The cluster, the user and the context in the kubeconfig."""
CA_DAYS: Final = 3650
SERVER_DAYS: Final = 730
RENEW_DAYS: Final = 90
"""A certificate with fewer days left is made anew at the next start."""
HOSTS: Final = ("localhost", "127.0.0.1", "::1")


class CredentialsError(TidegateError):
    """A file of the credentials is there and can't be used."""

    reason = "BadCredentials"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a server needs to prove itself and to know its clients."""

    ca_path: Path
    certificate_path: Path
    key_path: Path
    kubeconfig_path: Path
    token: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where the API is, as the kubeconfig says it."""
        return f"https://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure_credentials(data_dir: Path, *, host: str, port: int, now: float) -> Credentials:
    """Return the credentials of `data_dir`; make what is missing or near its end.

    Args:
        data_dir: Made (mode 0700) where it is missing.
        host: The address that the kubeconfig names and the certificate is also good for.
        port: The port that the kubeconfig names.
        now: Seconds since the epoch.

    Raises:
        CredentialsError: A file is there and can't be read.

    """
    pki = data_dir / "pki"
    pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    today = dt.datetime.fromtimestamp(now, dt.UTC)
    ca = _ensure_ca(pki, today)
    _ensure_server(pki, ca, host, today)
    made = Credentials(
        ca_path=pki / "ca.crt",
        certificate_path=pki / "server.crt",
        key_path=pki / "server.key",
        kubeconfig_path=data_dir / "kubeconfig",
        token=_ensure_token(pki / "token"),
        host=host,
        port=port,
    )
    _ensure_kubeconfig(made)
    return made


def write_private(path: Path, content: bytes) -> None:
    """Write `content` to `path` with mode 0600: readers see the old file or the new, whole."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # No open() and chmod(): between the two, others could open it.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        raise


def _ensure_token(path: Path) -> str:
    """Return the token in `path`, a new one where there is none."""
    with contextlib.suppress(FileNotFoundError):
        token = path.read_text().strip()
        if token:
            path.chmod(0o600)
            return token
    token = secrets.token_urlsafe(32)
    write_private(path, token.encode())
    return token


def _ensure_ca(pki: Path, today: dt.datetime) -> _Pair:
    """Return the certificate authority; its key never leaves `pki`."""
    found = _load(pki, "ca")
    if found and _lasts(found, today):
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Tidegate CA")
    certificate = (
        _builder(name, name, key, today, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _save(pki, "ca", _Pair(certificate, key))


def _ensure_server(pki: Path, ca: _Pair, host: str, today: dt.datetime) -> None:
    """Make a server certificate unless there is a good one of this `ca` for this `host`."""
    hosts = (*HOSTS, *([] if host in HOSTS else [host]))
    found = _load(pki, "server")
    if found and _lasts(found, today) and _serves(found, ca, hosts):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        _builder(_name(NAME), ca.certificate.subject, key, today, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(authority, critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternatives(hosts)), critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    _save(pki, "server", _Pair(certificate, key))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    today: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A day early: a client's clock may be behind ours.
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=days))
        .add_extension(identifier, critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    """Return subject names: addresses as addresses, the rest as DNS names (RFC 5280, 4.2.1.6)."""
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _lasts(pair: _Pair, today: dt.datetime) -> bool:
    renew_from = pair.certificate.not_valid_after_utc - dt.timedelta(days=RENEW_DAYS)
    return pair.certificate.not_valid_before_utc <= today < renew_from


def _serves(pair: _Pair, ca: _Pair, hosts: tuple[str, ...]) -> bool:
    """Whether `ca` signed the certificate and it is good for all `hosts`."""
    try:
        pair.certificate.verify_directly_issued_by(ca.certificate)
    except (InvalidSignature, TypeError, ValueError):
        return False
    names = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(_alternatives(hosts)) <= set(names.value)


def _load(pki: Path, name: str) -> _Pair | None:
    """Return the pair of that name; None where a file of it is missing."""
    try:
        certificate = x509.load_pem_x509_certificate((pki / f"{name}.crt").read_bytes())
        key = serialization.load_pem_private_key((pki / f"{name}.key").read_bytes(), None)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CredentialsError(
            f"{pki}/{name}.crt or .key: found {error}, expected PEM; "
            f"remove {pki} to have new credentials made"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != (
        certificate.public_key()
    ):
        return None
    return _Pair(certificate, key)


def _save(pki: Path, name: str, pair: _Pair) -> _Pair:
    """Write the pair; a crash between the two files leaves a mismatch, which `_load` discards."""
    key = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(pki / f"{name}.key", key)
    write_private(pki / f"{name}.crt", pair.certificate.public_bytes(serialization.Encoding.PEM))
    return pair


def _ensure_kubeconfig(credentials: Credentials) -> None:
    """Bring the kubeconfig up to date; what a person added to it (a namespace) stays."""
    path = credentials.kubeconfig_path
    old = _read_kubeconfig(path)
    new = _with_ours(old or {}, credentials)
    if new != old:
        write_private(path, yaml.safe_dump(new, sort_keys=False).encode())
    else:
        path.chmod(0o600)


def _read_kubeconfig(path: Path) -> dict[str, Any] | None:
    """Return the kubeconfig; None where there is none, or nothing that can be one."""
    try:
        found = yaml.safe_load(path.read_bytes())
    except (FileNotFoundError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None


def _with_ours(config: dict[str, Any], credentials: Credentials) -> dict[str, Any]:
    """Return `config` with our cluster, user and context; other entries are left alone."""
    cluster = {
        "server": credentials.url,
        "certificate-authority-data": base64.b64encode(credentials.ca_path.read_bytes()).decode(),
    }
    context = _entry(config, "contexts", "context") or {
        "cluster": NAME,
        "user": NAME,
        "namespace": "default",
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        **config,
        "clusters": _replaced(config, "clusters", {"name": NAME, "cluster": cluster}),
        "users": _replaced(config, "users", {"name": NAME, "user": {"token": credentials.token}}),
        "contexts": _replaced(config, "contexts", {"name": NAME, "context": context}),
        "current-context": config.get("current-context") or NAME,
    }


def _entries(config: dict[str, Any], section: str) -> list[dict[str, Any]]:
    found = config.get(section)
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def _entry(config: dict[str, Any], section: str, field: str) -> dict[str, Any] | None:
    """Return what the section says under our name."""
    for entry in _entries(config, section):
        if entry.get("name") == NAME and isinstance(entry.get(field), dict):
            return dict(entry[field])
    return None


def _replaced(config: dict[str, Any], section: str, ours: dict[str, Any]) -> list[dict[str, Any]]:
    return [ours, *(e for e in _entries(config, section) if e.get("name") != NAME)]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
