"""Certificates of the server, and those that it shows and trusts elsewhere."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok, warning
from citychain.config_tls import ClientTlsSettings
from citychain.errors import CitychainError, ConfigurationError
from citychain.pem import hosts_of, read_authorities, read_pair
from citychain.rpc.certificates import AHEAD

__all__ = ["check_certificates", "pair_results"]


def check_certificates(examined: Examined) -> Iterator[Result]:
    """Files, chains, time left, and whether the server's is for where it listens."""
    settings, now = examined.settings, datetime.now(UTC)
    if (tls := settings.server.tls) is not None:
        host = settings.server.listen.rpartition(":")[0].strip("[]")
        yield from pair_results("server.tls", tls.certificate, tls.key, now=now, host=host)
        if tls.client_ca is not None:
            yield _authorities("server.tls.client_ca", tls.client_ca)
    elif not settings.server.plaintext:
        yield ok("server.tls", "is not there: this machine alone is served")
    else:
        yield warning(
            "server.plaintext",
            "whoever is on the way reads and changes all that is said",
            "give [server.tls] a certificate and key, unless something before it speaks TLS",
        )
    for table, files in _clients(examined):
        yield _authorities(f"{table}.ca", files.ca)
        if files.certificate is not None and files.key is not None:
            yield from pair_results(table, files.certificate, files.key, now=now)


def pair_results(
    table: str, certificate: Path, key: Path, *, now: datetime, host: str | None = None
) -> Iterator[Result]:
    """A certificate and its key.

    Args:
        host: Name or address by which clients ask for it; ``None`` for a client's own.
    """
    try:
        pair = read_pair(certificate, key)
    except ConfigurationError as error:
        yield fault(table, str(error), "mend the file: it is used without a restart")
        return
    chain = x509.load_pem_x509_certificates(pair.certificates)
    sound = True
    for result in (*_chained(table, certificate, chain), *_named(table, certificate, chain, host)):
        sound = False
        yield result
    until, begins = pair.expires, max(it.not_valid_before_utc for it in chain)
    fix = "put the next one in its place: it is used without a restart"
    if until <= now:
        yield fault(table, f"{certificate}: expired at {until:%Y-%m-%d %H:%M} UTC", fix)
    elif begins > now:
        yield fault(table, f"{certificate}: is valid from {begins:%Y-%m-%d %H:%M} UTC on", fix)
    elif until - now <= AHEAD:
        days = (until - now).days
        yield warning(table, f"{certificate}: expires in {days} days", fix)
    elif sound:
        yield ok(table, f"{certificate}: is valid until {until:%Y-%m-%d}, and has its key")


def _chained(table: str, certificate: Path, chain: list[x509.Certificate]) -> Iterator[Result]:
    """What is wrong with the order: each is signed by the next."""
    for number, (below, above) in enumerate(pairwise(chain), start=1):
        try:
            below.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            yield fault(
                table,
                f"{certificate}: number {number} in it is not signed by number {number + 1}",
                "first the server's own, then whoever signed it, and so on",
            )


def _named(
    table: str, certificate: Path, chain: list[x509.Certificate], host: str | None
) -> Iterator[Result]:
    """What is wrong with the names of a server's certificate."""
    if host is None:
        return
    hosts = hosts_of(chain[0])
    if not hosts:
        yield fault(
            table,
            f"{certificate}: has no subject alternative name, and clients look at no other",
            "have one made with the names that clients ask for",
        )
        return
    there = ", ".join(hosts)
    try:
        address = ipaddress.ip_address(host)
        fits = address.is_unspecified or str(address) in hosts
    except ValueError:
        wildcard = f"*.{host.partition('.')[2]}"
        fits = host.lower() in map(str.lower, hosts) or wildcard in hosts
    if not fits:
        yield warning(
            table,
            f"{certificate}: is for {there}, and the server listens on {host}",
            "clients must ask for it by one of its names; or have one made for this one, too",
        )


def _authorities(setting: str, file: Path) -> Result:
    try:
        read_authorities(file)
    except ConfigurationError as error:
        return fault(setting, str(error), "mend the file, or name another one")
    return ok(setting, f"{file}: can be read")


def _clients(examined: Examined) -> Iterator[tuple[str, ClientTlsSettings]]:
    """Where this server is a client."""
    for slug, peer in examined.settings.peers.items():
        if peer.tls is not None:
            yield f"peers.{slug}.tls", peer.tls
    for plan in () if isinstance(examined.stores, CitychainError) else examined.stores:
        if isinstance(tls := getattr(plan.options, "tls", None), ClientTlsSettings):
            yield f"fragments.stores.{plan.name}.tls", tls
