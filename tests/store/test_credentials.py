"""What the embedded API's credentials promise."""

import datetime as dt
import ipaddress
import ssl
import stat

import pytest
import yaml
from cryptography import x509
from cryptography.x509 import verification

from tidegate.store.credentials import CredentialsError, ensure_credentials, write_private

NOW = 1_800_000_000.0
DAY = 86400.0


def ensure(path, *, port=7443, host="127.0.0.1", now=NOW):
    return ensure_credentials(path, host=host, port=port, now=now)


def config_of(credentials):
    return yaml.safe_load(credentials.kubeconfig_path.read_text())


def test_all_files_are_for_their_owner_alone(tmp_path):
    data_dir = tmp_path / "data"
    credentials = ensure(data_dir)
    files = [p for p in data_dir.rglob("*") if p.is_file()]
    assert credentials.kubeconfig_path in files
    assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}
    assert stat.S_IMODE((data_dir / "pki").stat().st_mode) == 0o700


def test_a_restart_keeps_everything(tmp_path):
    before = ensure(tmp_path)
    content = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert ensure(tmp_path, now=NOW + DAY) == before
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == content


def test_another_port_changes_the_address_and_nothing_else(tmp_path):
    old = config_of(ensure(tmp_path, port=1111))
    new = config_of(ensure(tmp_path, port=2222))
    assert new["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:2222"
    old["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:2222"
    assert new == old


def test_a_namespace_set_by_the_user_survives_a_new_port(tmp_path):
    credentials = ensure(tmp_path, port=1111)
    config = config_of(credentials)
    config["contexts"][0]["context"]["namespace"] = "team-a"
    config["contexts"].append({"name": "other", "context": {"cluster": "x", "user": "y"}})
    credentials.kubeconfig_path.write_text(yaml.safe_dump(config))
    again = config_of(ensure(tmp_path, port=2222))
    assert again["contexts"] == config["contexts"]


def test_a_broken_kubeconfig_is_written_anew(tmp_path):
    credentials = ensure(tmp_path)
    good = credentials.kubeconfig_path.read_bytes()
    credentials.kubeconfig_path.write_text("{nonsense: [")
    ensure(tmp_path)
    assert credentials.kubeconfig_path.read_bytes() == good


def test_a_server_certificate_near_its_end_is_renewed_under_the_same_authority(tmp_path):
    credentials = ensure(tmp_path)
    ca, old = credentials.ca_path.read_bytes(), credentials.certificate_path.read_bytes()
    ensure(tmp_path, now=NOW + 600 * DAY)
    assert credentials.certificate_path.read_bytes() == old
    ensure(tmp_path, now=NOW + 700 * DAY)
    renewed = x509.load_pem_x509_certificate(credentials.certificate_path.read_bytes())
    assert credentials.ca_path.read_bytes() == ca
    assert renewed.not_valid_after_utc > dt.datetime.fromtimestamp(NOW + 1400 * DAY, dt.UTC)


def test_another_host_gets_a_certificate_that_names_it(tmp_path):
    ensure(tmp_path)
    credentials = ensure(tmp_path, host="10.1.2.3")
    certificate = x509.load_pem_x509_certificate(credentials.certificate_path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "10.1.2.3" in map(str, names.get_values_for_type(x509.IPAddress))
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_the_certificate_verifies_for_its_hosts_and_no_other(tmp_path):
    credentials = ensure(tmp_path)
    ca = x509.load_pem_x509_certificate(credentials.ca_path.read_bytes())
    leaf = x509.load_pem_x509_certificate(credentials.certificate_path.read_bytes())
    moment = dt.datetime.fromtimestamp(NOW, dt.UTC)
    policy = verification.PolicyBuilder().store(verification.Store([ca])).time(moment)
    for host in (
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ):
        assert policy.build_server_verifier(host).verify(leaf, []) == [leaf, ca]
    with pytest.raises(verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("evil.example")).verify(leaf, [])


def test_a_crash_between_certificate_and_key_heals_at_the_next_start(tmp_path):
    credentials = ensure(tmp_path)
    other = ensure(tmp_path / "other")
    credentials.key_path.write_bytes(other.key_path.read_bytes())
    ensure(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(credentials.certificate_path, credentials.key_path)


def test_a_certificate_of_another_authority_is_made_anew(tmp_path):
    credentials, other = ensure(tmp_path), ensure(tmp_path / "other")
    credentials.certificate_path.write_bytes(other.certificate_path.read_bytes())
    credentials.key_path.write_bytes(other.key_path.read_bytes())
    ensure(tmp_path)
    assert credentials.certificate_path.read_bytes() != other.certificate_path.read_bytes()


def test_garbage_in_a_key_names_the_file_and_the_way_out(tmp_path):
    credentials = ensure(tmp_path)
    credentials.key_path.write_text("not a key")
    with pytest.raises(CredentialsError, match=r"pki/server.*remove .*pki"):
        ensure(tmp_path)


def test_a_failed_write_leaves_what_was_there_and_no_draft(tmp_path):
    (tmp_path / "taken" / "by-a-directory").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_private(tmp_path / "taken", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_every_data_directory_has_its_own_token(tmp_path):
    assert ensure(tmp_path / "a").token != ensure(tmp_path / "b").token
