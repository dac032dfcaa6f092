"""A server that sends exactly what a test says, byte by byte if need be."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Answers one connection: gets the socket and what was asked.
Script = Callable[[socket.socket, bytes], None]


class Wire:
    """Connections that a script answers.

    Attributes:
        base: address of the server.
        asked: the requests, as they came.
        gone: set when a script could not send because the other side has closed.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.asked: list[bytes] = []
        self.gone = threading.Event()


@contextmanager
def wire(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Wire]:
    """A server whose connections are closed after the script has answered one request."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        scheme = "http" if tls is None else "https"
        server = Wire(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}")

        def answer(plain: socket.socket) -> None:
            with (
                suppress(OSError),
                plain if tls is None else tls.wrap_socket(plain, server_side=True) as sock,
            ):
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += sock.recv(4096)
                server.asked.append(asked)
                try:
                    script(sock, asked)
                except OSError:
                    server.gone.set()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listening.accept()
                    threading.Thread(target=answer, args=(sock,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server


def says(content: bytes) -> Script:
    """Always the same bytes, headers included."""
    return lambda sock, _: sock.sendall(content)


def drips(head: bytes, piece: bytes = b"x", pause: float = 0.05) -> Script:
    """``head``, then a piece now and then, for ever."""
    wait = threading.Event()

    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(piece)
            wait.wait(pause)

    return script


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for this machine, and the file that makes a client trust it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "public.pem", folder / "private.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public
