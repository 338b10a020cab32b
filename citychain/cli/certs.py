"""``citychain certs``: certificates to try TLS with."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from citychain.cli.output import Json, print_json, say

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["certs"]

FILES: Final = ("ca.crt", "server.crt", "server.key", "client.crt", "client.key")
LOCAL: Final = ("localhost", "127.0.0.1", "::1")

certs = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@certs.callback()
def _group() -> None:
    """Make certificates to try TLS with.

    Examples:

        citychain certs dev --dir tls
    """


@certs.command()
def dev(
    directory: Annotated[
        Path, typer.Option("--dir", help="The folder of the files, which is made.", file_okay=False)
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name or address of the server. Can be repeated.", show_default=False
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long they hold.")] = 90,
    json: Json = False,
) -> None:
    """Make an authority, a server's certificate and a client's, for trying it.

    The server's is for `localhost`, `127.0.0.1`, `::1` and each `--host`. The authority's own key
    is forgotten at once, so nobody can make more certificates of it: whoever trusts `ca.crt` trusts
    those two alone. Use certificates of an authority of your own, or a public one, where others
    depend on them.

    The keys can be read by their owner alone (mode 0600). Nothing is written over.

    Examples:

        citychain certs dev --dir tls
        citychain certs dev --dir tls --host town.example --host 192.0.2.7
    """
    from datetime import UTC, datetime, timedelta

    from citychain.errors import ConfigurationError

    paths = {name: directory / name for name in FILES}
    begins = datetime.now(UTC) - timedelta(hours=1)  # Clocks differ.
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if there := [path for path in paths.values() if path.exists()]:
            raise ConfigurationError(f"{there[0]}: is there already; choose another --dir")
        hosts = [*LOCAL, *(host or ())]
        for name, content in _made(hosts, begins, timedelta(days=days)).items():
            mode = 0o600 if name.endswith(".key") else 0o644
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(paths[name], flags, mode), "wb") as file:
                file.write(content)
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: cannot be written: {error.strerror}") from None
    if json:
        print_json({"expires": (begins + timedelta(days=days)).isoformat(), **paths})
        return
    say("made; whoever trusts ca.crt trusts these two certificates alone:")
    for path in paths.values():
        print(path)


def _made(hosts: list[str], begins: datetime, lasts: Any) -> dict[str, bytes]:
    """The content of each file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

    def pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)

    def secret(key: EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    authority, server, client = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    period = (begins, begins + lasts)
    ca = _certificate("citychain development CA", authority, authority, period)
    names = x509.SubjectAlternativeName([_name(host) for host in hosts])
    own = (names, x509.ExtendedKeyUsage([Usage.SERVER_AUTH]))
    theirs = (x509.ExtendedKeyUsage([Usage.CLIENT_AUTH]),)
    return {
        "ca.crt": pem(ca),
        "server.crt": pem(_certificate("server", server, authority, period, ca, own)),
        "server.key": secret(server),
        "client.crt": pem(_certificate("client", client, authority, period, ca, theirs)),
        "client.key": secret(client),
    }


def _name(host: str) -> x509.GeneralName:
    """A host as certificates name it: RFC 5280, section 4.2.1.6."""
    import ipaddress

    from cryptography import x509

    from citychain.errors import ConfigurationError

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        if re.fullmatch(r"[\w-]+(\.[\w-]+)*", host):
            return x509.DNSName(host.encode("idna").decode())
    except ValueError:
        pass
    raise ConfigurationError(f"--host: {host!r} is no name of a host, nor an address")


def _certificate(
    name: str,
    key: EllipticCurvePrivateKey,
    signer: EllipticCurvePrivateKey,
    period: tuple[datetime, datetime],
    ca: x509.Certificate | None = None,
    extensions: tuple[x509.ExtensionType, ...] = (),
) -> x509.Certificate:
    """A certificate in the profile of RFC 5280; that of an authority without ``ca``."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    is_ca = ca is None
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    signs = {"digital_signature": not is_ca, "key_cert_sign": is_ca, "crl_sign": is_ca}
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if ca is None else ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(period[0])
        .not_valid_after(period[1])
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), True)
        .add_extension(x509.KeyUsage(**usage, **signs), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
    )
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    return builder.sign(signer, SHA256())
