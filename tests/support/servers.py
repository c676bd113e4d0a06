"""Servers for tests, each a real one: TLS with certificates of our own, proxies, a PostgreSQL that listens on TCP."""

import os
import pwd
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from adbc_driver_postgresql import dbapi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_ONLY_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority of a test, with its certificate in a file."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = folder / f"{name}.pem"
        extensions = [x509.BasicConstraints(ca=True, path_length=0), _ONLY_SIGNS]
        self.certificate.write_bytes(self._sign(self._name, self._key, extensions))

    def issue(self, *hosts: str, days: int = 1) -> tuple[Path, Path]:
        """Write a certificate for hosts, and its key; one of negative days has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        certificate, private = (self._folder / f"{hosts[0]}{days}.{end}" for end in ("pem", "key"))
        certificate.write_bytes(self._sign(subject, key, [x509.SubjectAlternativeName(names)], days))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        private.chmod(0o600)
        return certificate, private

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extensions: list[x509.ExtensionType],
        days: int = 1,
    ) -> bytes:
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now + timedelta(days=days))
            # Python 3.13 trusts no certificate without the ids of both keys.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension in extensions:
            is_critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
            certificate = certificate.add_extension(extension, critical=is_critical)
        return certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@contextmanager
def answering(answer: bytes | None, tls: tuple[Path, Path] | None = None) -> Iterator[int]:
    """Serve one answer for whatever is asked, or with None close at once; the port, of 127.0.0.1."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with suppress(OSError), ExitStack() as stack:
                    stack.callback(client.close)
                    client.settimeout(5)
                    served = stack.enter_context(context.wrap_socket(client, server_side=True)) if context else client
                    if answer:
                        served.recv(65_536)
                        served.sendall(answer)

        def run() -> None:
            with suppress(OSError):
                serve()

        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def http_answer(status: str, body: str = "", content_type: str = "text/plain") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return (head + body).encode()


HBA = """
local all all trust
host all stranger 127.0.0.1/32 reject
host all secretive 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


@dataclass
class TcpPostgres:
    """A PostgreSQL on a port of 127.0.0.1, with TLS, that can be restarted with other settings."""

    folder: Path
    programs: Path
    port: int
    authority: Authority
    user: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, *settings: str, wait: bool = True) -> None:
        words = [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the system's program
                [self.programs / "postgres", "-D", self.folder / "data", *words], stdout=log, stderr=log, **self.user
            )
        while wait:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            with suppress(dbapi.Error), dbapi.connect(self.url()):
                return
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(2)
            self.process.wait()

    def url(self, user: str = "postgres", host: str = "127.0.0.1", database: str = "postgres", query: str = "") -> str:
        return f"postgresql://{user}@{host}:{self.port}/{database}?{query}"


PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
"""The programs of the system's PostgreSQL, which has TLS; the wheel's has none."""


@contextmanager
def tcp_postgres() -> Iterator[TcpPostgres]:
    """Run a PostgreSQL on TCP with TLS; skip the test where none is installed."""
    if PROGRAMS is None:
        pytest.skip("PostgreSQL with TLS is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="tls-", dir="/tmp"))
    authority = Authority(folder)
    certificate, key = authority.issue("localhost", "db.example")
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to be root
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for path in (folder, key):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    server = TcpPostgres(folder, PROGRAMS.parent, free_port(), authority, user)
    words = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", str(folder / "data"))
    subprocess.run([PROGRAMS, *words], check=True, capture_output=True, **user)  # noqa: S603 - the system's program
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(server.port),
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": str(certificate),
        "ssl_key_file": str(key),
    }
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (folder / "data" / "pg_hba.conf").write_text(HBA)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
