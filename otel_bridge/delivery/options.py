"""Where and how spans are exported.

Explicit settings win over the standard `OTEL_EXPORTER_OTLP_*` variables, those over defaults. Owns the
variables and their checks. It must not open anything but the named certificate files, to see that they are
there.

Contract: what comes out is complete and consistent. A value that cannot be used raises
`ExportConfigurationError`, which names the setting and what it accepts. Source of names, forms and defaults:
OpenTelemetry specification, "OTLP Exporter".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

DEFAULT_TIMEOUT_SECONDS = 10.0
MIN_TIMEOUT_SECONDS = 0.1
"""Below it nothing but a local backend could ever answer; it also catches seconds written where milliseconds
are read."""

_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
_FIELD_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9a-z]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TRACES_PATH = "/v1/traces"
_GRPC_PORT = 4317


class ExportConfigurationError(ValueError):
    """An export setting cannot be used; the message names it and says what it accepts."""


class OtlpProtocol(StrEnum):
    """OTEL_EXPORTER_OTLP_PROTOCOL."""

    GRPC = "grpc"
    HTTP_PROTOBUF = "http/protobuf"


class OtlpCompression(StrEnum):
    """OTEL_EXPORTER_OTLP_COMPRESSION."""

    NONE = "none"
    GZIP = "gzip"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """A checked OTLP destination; build it with `from_environment`."""

    endpoint: str
    """HTTP: the full URL. gRPC: the target, `host:port` or `unix:PATH`."""
    protocol: OtlpProtocol
    secure: bool
    """TLS. The server is always verified: against `certificate`, else against the system's authorities."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Often credentials, so they stay out of the representation."""
    compression: OtlpCompression = OtlpCompression.NONE
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    """For one attempt."""
    certificate: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        *,
        endpoint: str | None = None,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        compression: str | None = None,
        timeout_seconds: float | None = None,
        certificate: str | None = None,
        client_key: str | None = None,
        client_certificate: str | None = None,
        insecure: bool | None = None,
    ) -> ExportOptions:
        """Return the checked options.

        Explicit arguments win over `OTEL_EXPORTER_OTLP_TRACES_…` variables, those over the general ones.
        An explicit endpoint is a base URL like OTEL_EXPORTER_OTLP_ENDPOINT, to which HTTP adds `/v1/traces`,
        unless it ends so already. Without a protocol, port 4317 means gRPC, anything else HTTP. Raises
        ExportConfigurationError.
        """
        settings = _Settings(environ)
        source, url, is_final = settings.endpoint(endpoint)
        chosen = settings.protocol(protocol, url)
        target, secure = _target(
            source, url, chosen, is_final=is_final, insecure=settings.insecure(explicit=insecure)
        )
        key = settings.file("CLIENT_KEY", client_key)
        client = settings.file("CLIENT_CERTIFICATE", client_certificate)
        if (key is None) != (client is None):
            raise ExportConfigurationError(
                "OTEL_EXPORTER_OTLP_CLIENT_KEY and OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE belong together: "
                "set both (paths of PEM files) for mutual TLS, or neither"
            )
        return cls(
            endpoint=target,
            protocol=chosen,
            secure=secure,
            headers=settings.headers(headers, chosen),
            compression=settings.compression(compression),
            timeout_seconds=settings.timeout(timeout_seconds),
            certificate=settings.file("CERTIFICATE", certificate),
            client_key=key,
            client_certificate=client,
        )


def is_export_configured(environ: Mapping[str, str]) -> bool:
    """Whether the environment names an OTLP endpoint."""
    return any(
        environ.get(name) for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )


class _Settings:
    """The variables of one environment. An empty one counts as unset (specification, "Empty value")."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def _find(self, suffix: str) -> tuple[str, str] | None:
        for name in (f"OTEL_EXPORTER_OTLP_TRACES_{suffix}", f"OTEL_EXPORTER_OTLP_{suffix}"):
            value = self._environ.get(name, "").strip()
            if value:
                return name, value
        return None

    def endpoint(self, explicit: str | None) -> tuple[str, str, bool]:
        """Return where the endpoint was set, its value, and whether an HTTP URL is final as it stands."""
        if explicit:
            return "the OTLP endpoint", explicit.strip(), explicit.rstrip("/").endswith(_TRACES_PATH)
        found = self._find("ENDPOINT")
        if found is None:
            return "the OTLP endpoint", "", False
        name, value = found
        return name, value, "_TRACES_" in name

    def protocol(self, explicit: str | None, endpoint: str) -> OtlpProtocol:
        found = ("the OTLP protocol", explicit) if explicit else self._find("PROTOCOL")
        if found is None:
            named = endpoint if "://" in endpoint else f"//{endpoint}"
            try:
                is_grpc = urlsplit(named).port == _GRPC_PORT
            except ValueError:
                is_grpc = False
            return OtlpProtocol.GRPC if is_grpc else OtlpProtocol.HTTP_PROTOBUF
        try:
            return OtlpProtocol(found[1].lower())
        except ValueError:
            raise ExportConfigurationError(
                f"{found[0]} is {found[1]!r}; it must be grpc or http/protobuf"
            ) from None

    def compression(self, explicit: str | None) -> OtlpCompression:
        found = ("the OTLP compression", explicit) if explicit else self._find("COMPRESSION")
        if found is None:
            return OtlpCompression.NONE
        try:
            return OtlpCompression(found[1].lower())
        except ValueError:
            raise ExportConfigurationError(f"{found[0]} is {found[1]!r}; it must be gzip or none") from None

    def timeout(self, explicit: float | None) -> float:
        """Return seconds; the variables count milliseconds."""
        name = "the OTLP timeout"
        seconds = explicit
        if seconds is None:
            found = self._find("TIMEOUT")
            if found is None:
                return DEFAULT_TIMEOUT_SECONDS
            name = found[0]
            try:
                seconds = float(found[1]) / 1000
            except ValueError:
                seconds = 0.0
        if not MIN_TIMEOUT_SECONDS <= seconds < float("inf"):
            raise ExportConfigurationError(
                f"{name} must be a number of milliseconds, 100 or more (10000 is the default)"
            )
        return seconds

    def insecure(self, *, explicit: bool | None) -> bool | None:
        if explicit is not None:
            return explicit
        found = self._find("INSECURE")
        if found is None:
            return None
        if found[1].lower() not in {"true", "false"}:
            raise ExportConfigurationError(f"{found[0]} is {found[1]!r}; it must be true or false")
        return found[1].lower() == "true"

    def headers(
        self, explicit: Mapping[str, str] | None, protocol: OtlpProtocol
    ) -> tuple[tuple[str, str], ...]:
        """Return header fields; the variables read `name=value,name=value`, values percent-encoded."""
        fields: dict[str, str] = {}
        found = self._find("HEADERS")
        if found is not None:
            for pair in found[1].split(","):
                if not pair.strip():
                    continue
                name, equals, value = pair.partition("=")
                if not equals or not name.strip():
                    # The value may be a credential, so the message must not repeat it.
                    raise ExportConfigurationError(
                        f"{found[0]} must be name=value pairs separated by commas, values percent-encoded"
                    )
                fields[unquote(name.strip()).lower()] = unquote(value).strip()
        fields.update({name.lower(): value.strip() for name, value in (explicit or {}).items()})
        for name, value in fields.items():
            problem = _header_problem(name, value, protocol)
            if problem is not None:
                # The value may be a credential, so the message must not repeat it.
                raise ExportConfigurationError(
                    f"OTLP header {name!r} cannot be sent over {protocol}: {problem}"
                )
        return tuple(fields.items())

    def file(self, suffix: str, explicit: str | None) -> Path | None:
        found = (f"the OTLP {suffix.lower().replace('_', ' ')}", explicit) if explicit else self._find(suffix)
        if found is None:
            return None
        path = Path(found[1])
        try:
            with path.open("rb") as file:
                is_pem = b"-----BEGIN" in file.read(1 << 20)
        except OSError as error:
            raise ExportConfigurationError(f"{found[0]}: {path}: {os.strerror(error.errno or 0)}") from None
        if not is_pem:
            raise ExportConfigurationError(f"{found[0]}: {path} is not a PEM file")
        return path


def _header_problem(name: str, value: str, protocol: OtlpProtocol) -> str | None:
    """Return why a header field cannot be sent, None when it can.

    Sources: RFC 9110 §5.1 and §5.5 for HTTP, "gRPC over HTTP2" for gRPC (Custom-Metadata).
    """
    if protocol is OtlpProtocol.GRPC:
        if _METADATA_KEY.fullmatch(name) is None or name.startswith("grpc-"):
            return (
                "a name of gRPC metadata has a to z, 0 to 9, '_', '-' and '.', and does not begin with grpc-"
            )
        if name.endswith("-bin"):
            return "metadata whose name ends in -bin is binary, and a setting holds text"
        if _METADATA_VALUE.fullmatch(value) is None:
            return "a value of gRPC metadata has printable ASCII characters only"
        return None
    if _FIELD_NAME.fullmatch(name) is None:
        return "a name has ASCII letters, digits and !#$%&'*+-.^_`|~ only"
    if _FIELD_VALUE.fullmatch(value) is None:
        return "a value has no control characters, and none outside Latin-1"
    return None


def _target(
    source: str, url: str, protocol: OtlpProtocol, *, is_final: bool, insecure: bool | None
) -> tuple[str, bool]:
    """Return what the transport connects to and whether with TLS."""
    example = "http://localhost:4317" if protocol is OtlpProtocol.GRPC else "http://localhost:4318"
    problem = f"{source} is {url!r}; it must be a URL such as {example} or https://collector.example:443"
    if not url:
        url = example
    if protocol is OtlpProtocol.GRPC and url.startswith("unix:"):
        return url, False
    schemeless = "://" not in url
    try:
        parts = urlsplit(f"//{url}" if schemeless else url)
        has_host = bool(parts.hostname)
        _ = parts.port
    except ValueError:
        raise ExportConfigurationError(problem) from None
    if not has_host or (parts.scheme not in {"http", "https"} and not schemeless):
        raise ExportConfigurationError(problem)
    if protocol is OtlpProtocol.GRPC:
        # The scheme decides; without one the INSECURE setting does (specification, "Insecure"), and TLS is
        # the default.
        secure = parts.scheme == "https" if not schemeless else not insecure
        return parts.netloc.rpartition("@")[2], secure
    if schemeless:
        raise ExportConfigurationError(problem)
    if not is_final:
        url = url.rstrip("/") + _TRACES_PATH
    return url, parts.scheme == "https"
