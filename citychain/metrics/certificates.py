"""Metrics of a server's certificate in TLS."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from citychain.rpc.certificates import Certificates

__all__ = ["CertificateMetrics"]

EXPIRES: Final = "citychain_certificate_expires_timestamp_seconds"


class CertificateMetrics:
    """Nothing is told of a server without TLS."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.expires = Gauge(
            EXPIRES,
            "When the certificate that the server shows in TLS expires, in Unix time.",
            ("file",),
            registry=registry,
        )

    def show(self, certificates: Certificates) -> None:
        """Tell of these whenever somebody asks: they are replaced while the server runs."""
        self.expires.labels(str(certificates.file)).set_function(certificates.expires)
