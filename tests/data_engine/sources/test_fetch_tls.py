"""Encrypted downloads: the address is the one that was checked, the certificate must be the name's."""

import datetime
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from data_engine.sources import fetch
from tests.data_engine.sources.badserver import BadServer
from tests.data_engine.sources.helpers import png


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for `name`, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(issued, issued, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """A server at a certified name that resolves to this machine: its address."""
    running: list[BadServer] = []
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host.endswith(".test") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def start(name: str) -> str:
        path = certificate(tmp_path, name)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        server = BadServer()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        running.append(server)
        return str(server.server_address[1])

    yield start
    for server in running:
        server.close()


MANNERS = fetch.Manners(allow_private=True, retries=0, timeout=2.0)


def test_the_certificate_of_the_name_is_accepted_at_the_checked_address(serve):
    port = serve("site.test")
    assert fetch.Fetcher(MANNERS).fetch(f"https://site.test:{port}/fine") == png(shade=5)


def test_a_certificate_of_another_name_is_refused(serve):
    port = serve("site.test")
    with pytest.raises(fetch.FetchError, match="connection failed"):
        fetch.Fetcher(MANNERS).fetch(f"https://other.test:{port}/fine")


def test_an_unknown_certificate_is_refused(serve, monkeypatch):
    port = serve("site.test")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(fetch.FetchError, match="connection failed"):
        fetch.Fetcher(MANNERS).fetch(f"https://site.test:{port}/fine")
