"""The addresses on which the server listens: free, or held by itself."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta

from citychain.asking import answered_within
from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok, warning
from citychain.client.channels import ChannelFactory
from citychain.client.health import is_serving
from citychain.config_tls import ServerTlsSettings
from citychain.errors import CitychainError, ConfigurationError
from citychain.pem import read_pair

__all__ = ["check_listening"]

ELSEWHERE = "stop who has it, or choose another address"


def check_listening(examined: Examined) -> Iterator[Result]:
    """Whether a server can have its addresses, or has them."""
    settings = examined.settings
    server, seconds = settings.server, examined.seconds
    address = _reachable(server.listen)
    if (unusable := _unusable("server.listen", server.listen)) is not None:
        yield unusable
    elif not _is_held(address, seconds):
        yield ok("server.listen", f"{server.listen} is free")
    elif server.tls is not None:
        yield _shown(address, server.tls, seconds)
    else:
        yield _answering(address, seconds)
    if settings.metrics.listen is not None:
        listen = settings.metrics.listen
        address = _reachable(listen)
        if (unusable := _unusable("metrics.listen", listen)) is not None:
            yield unusable
        elif not _is_held(address, seconds):
            yield ok("metrics.listen", f"{listen} is free")
        else:
            yield _healthy(address, seconds)


def _reachable(listen: str) -> tuple[str, int]:
    """Where something that listens there is asked on this machine."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}.get(host, host), int(port)


def _unusable(setting: str, listen: str) -> Result | None:
    """Why nobody could listen there: it is no address of this machine."""
    host, port = _reachable(listen)
    fix = "choose an address of this machine"
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as tried:
            tried.bind((found[0], 0, *found[2:]))
    except (OSError, UnicodeError) as error:
        what = getattr(error, "strerror", None) or str(error)
        return fault(setting, f"cannot listen on {listen}: {what}", fix)
    return None


def _is_held(address: tuple[str, int], seconds: float) -> bool:
    if address[1] == 0:
        return False  # Any that is free.
    try:
        socket.create_connection(address, seconds).close()
    except OSError:
        return False
    return True


def _answering(address: tuple[str, int], seconds: float) -> Result:
    """Whether who has the port is a server of ours."""
    host, port = address
    endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        serving = asyncio.run(
            is_serving(ChannelFactory([endpoint]), timeout=timedelta(seconds=seconds))
        )
    except (CitychainError, TimeoutError):
        return fault(
            "server.listen", f"{endpoint} is held by what answers as no server of ours", ELSEWHERE
        )
    if serving:
        return ok("server.listen", f"a server answers on {endpoint}")
    return warning("server.listen", f"the server on {endpoint} is stopping", "look again")


def _shown(address: tuple[str, int], tls: ServerTlsSettings, seconds: float) -> Result:
    """Whether who has the port shows this server's certificate."""
    # Whom to trust is not asked here: what is shown is compared with what should be.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, port = address
    try:
        own = ssl.PEM_cert_to_DER_cert(_first(read_pair(tls.certificate, tls.key).certificates))
        with (
            socket.create_connection(address, seconds) as connection,
            context.wrap_socket(connection, server_hostname=host) as encrypted,
        ):
            shown = encrypted.getpeercert(binary_form=True)
    except ConfigurationError:
        what = f"{host}:{port} is held; by whom, the files of [server.tls] cannot tell"
        return warning("server.listen", what, "mend them")
    except OSError:  # Those of TLS are such.
        return fault("server.listen", f"{host}:{port} is held by what speaks no TLS", ELSEWHERE)
    if shown == own:
        return ok("server.listen", f"{host}:{port} shows this server's certificate")
    what = f"{host}:{port} shows another certificate than {tls.certificate} has"
    return fault("server.listen", what, "its log says why, if it is this server; else " + ELSEWHERE)


def _first(certificates: bytes) -> str:
    end = b"-----END CERTIFICATE-----"
    text = certificates[certificates.index(b"-----BEGIN CERTIFICATE-----") :]
    return (text[: text.index(end)] + end).decode("ascii")


def _healthy(address: tuple[str, int], seconds: float) -> Result:
    host, port = address
    asking = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        with answered_within(asking, seconds):
            asking.request("GET", "/readyz")
            answer = asking.getresponse()
            text = answer.read(200).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return fault(
            "metrics.listen",
            f"{host}:{port} is held by what answers as no server of ours",
            ELSEWHERE,
        )
    finally:
        asking.close()
    if answer.status == http.client.OK:
        return ok("metrics.listen", f"{host}:{port} says that the server is ready")
    if answer.status == http.client.SERVICE_UNAVAILABLE:
        return warning("metrics.listen", f"{host}:{port} says: {text}", "its log says more")
    return fault(
        "metrics.listen", f"{host}:{port} is held by what answers as no server of ours", ELSEWHERE
    )
