"""The configuration: its keys, their types and defaults, and the options of the stages made from it.

Owns what can be configured. Each stage declares its own options type and does not import this module; here
they are composed. Where values come from (file, environment, command line) belongs to `config_sources`.

Contract: immutable, closed (an unknown key is an error), and complete: every key has a default and a
description, from which docs/configuration.md is made.
"""

from __future__ import annotations

import os
from enum import StrEnum
from ipaddress import ip_network
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from agent.logs import LogFormat, LogLevel
from agent.selection_rules import CaptureDirection, SelectionRules
from agent.workloads.docker.containers import DEFAULT_LABELS
from agent.workloads.kubernetes.capture_rules import CaptureDefault, CaptureRules
from agent.workloads.kubernetes.label_selector import LabelSelector, SelectorError, parse_selector
from agent.workloads.kubernetes.options import KubernetesOptions, default_node
from ebpf.compilation import CaptureOptions
from otel_bridge.delivery.options import OtlpCompression, OtlpProtocol
from otel_bridge.spans.trust import DEFAULT_TRUSTED_PROXIES
from parsers.limits import ParserLimits

MAX_BODY_BYTES = 1_048_576
"""Largest body limit: a span of two such bodies still fits the 4 MiB that gRPC receivers accept."""
MIB = 1_048_576


class AttributeProfile(StrEnum):
    """Names and types of span attributes."""

    OTEL = "otel"
    """OpenTelemetry semantic conventions."""


class ListenAddress(NamedTuple):
    """Where a server listens. An empty host means every interface, port 0 any free port."""

    host: str
    port: int


def _parse_listen_address(value: object) -> object:
    if isinstance(value, ListenAddress):
        return value
    host, separator, port = str(value).rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not port.isdecimal() or int(port) > 65_535 or (":" in host and not bracketed):
        raise ValueError("should be HOST:PORT, for instance 127.0.0.1:9464, [::1]:9464 or :9464")
    return ListenAddress(host[1:-1] if bracketed else host, int(port))


Port = Annotated[int, Field(ge=1, le=65_535)]
ProcessNumber = Annotated[int, Field(ge=1)]


def _check_power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError("should be a power of two, for instance 8388608")
    return value


def _parse_selector(value: object) -> object:
    if value is None or isinstance(value, LabelSelector):
        return value
    if not isinstance(value, str):
        raise ValueError("should be a label selector, such as app=web")  # noqa: TRY004 (pydantic's convention)
    try:
        return parse_selector(value)
    except SelectorError as error:
        raise ValueError(f"should be a label selector, such as app=web ({error})") from None


def _check_network(value: str) -> str:
    try:
        ip_network(value, strict=False)
    except ValueError:
        raise ValueError("should be an address or a network, for instance 10.0.0.0/8 or fd00::1") from None
    return value


Network = Annotated[str, AfterValidator(_check_network)]


Selector = Annotated[LabelSelector, BeforeValidator(_parse_selector)]


NO_EXPORTER = "none"
OTLP_EXPORTER = "otlp"
"""Names of exporters that are not looked up: none at all, and the agent's own OTLP delivery."""


def _split_exporters(value: object) -> object:
    """Take names separated by commas, as OTEL_TRACES_EXPORTER has them, in each part of a list."""
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        return value
    names = dict.fromkeys(name for part in value for each in part.split(",") if (name := each.strip()))
    if NO_EXPORTER in names and len(names) > 1:
        raise ValueError("should be `none` alone, or names of exporters")
    return tuple(names)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class CaptureSection(_Section):
    """Which conversations are captured. A key with several values widens, different keys narrow."""

    pids: tuple[ProcessNumber, ...] = Field(
        default=(), description="Only these processes and their descendants."
    )
    executables: tuple[str, ...] = Field(
        default=(),
        description="Only processes whose executable matches one of these shell patterns, by path or name.",
    )
    containers: tuple[str, ...] = Field(
        default=(),
        description="Only processes in containers that one of these means: a name, a shell pattern over"
        " names, or the first 12 or more digits of an id.",
    )
    ports: tuple[Port, ...] = Field(
        default=(), description="Only connections with one of these ports at either end."
    )
    direction: CaptureDirection = Field(
        default=CaptureDirection.BOTH,
        description="`ingress`: requests that the process serves; `egress`: requests that it makes; `both`.",
    )
    ring_bytes: Annotated[int, AfterValidator(_check_power_of_two)] = Field(
        default=8 * MIB,
        ge=65_536,
        le=1024 * MIB,
        description="Size of the ring buffer between kernel and agent.",
    )


class KubernetesSection(_Section):
    """Pods of this node: which are captured, and what their spans say of them. Annotations win over this."""

    enabled: bool = Field(
        default=False, description="Discover pods, and capture those that the keys below select."
    )
    kubeconfig: str | None = Field(
        default=None,
        description="File that says where the API is. Else it is the pod's service account, or KUBECONFIG.",
    )
    node: str | None = Field(
        default=None, description="Name of this node. Else it is NODE_NAME of the environment, or the host's."
    )
    default: CaptureDefault = Field(
        default=CaptureDefault.ALL,
        description="`all` or `none`: what holds for a pod that no rule speaks of.",
    )
    namespaces: tuple[str, ...] = Field(
        default=(), description="Only pods of namespaces that match one of these shell patterns."
    )
    exclude_namespaces: tuple[str, ...] = Field(
        default=(), description="No pods of namespaces that match one of these shell patterns."
    )
    selector: Selector | None = Field(
        default=None, description="Only pods whose labels match, in the syntax of Kubernetes."
    )
    ingress_selector: Selector | None = Field(
        default=None, description="The same for the requests that a pod serves, in place of `selector`."
    )
    egress_selector: Selector | None = Field(
        default=None, description="The same for the requests that a pod makes, in place of `selector`."
    )
    labels: tuple[str, ...] = Field(
        default=(),
        description="Labels that become attributes, as shell patterns over their keys.",
    )
    annotations: tuple[str, ...] = Field(
        default=(),
        description="Annotations that become attributes, as shell patterns over their keys.",
    )
    cluster_name: str | None = Field(default=None, description="Value of `k8s.cluster.name`.")


class TlsSection(_Section):
    """Plaintext of TLS connections, taken at the functions of the libraries that encrypt them."""

    enabled: bool = Field(
        default=True,
        description="Probe the libraries of captured processes. Without it no program is touched, and TLS"
        " connections are left alone.",
    )
    exclude_executables: tuple[str, ...] = Field(
        default=(),
        description="TLS of no process whose executable matches one of these shell patterns, by path or"
        " name, whatever else is said.",
    )


class ContentSection(_Section):
    """What of a message becomes an attribute."""

    bodies: bool = Field(
        default=True, description="Export bodies. Without them, their true sizes are still exported."
    )
    headers: bool = Field(default=True, description="Export headers.")
    max_body: int = Field(
        default=131_072,
        ge=0,
        le=MAX_BODY_BYTES,
        description="Bytes kept of each body, after its content coding is undone.",
    )
    attributes: AttributeProfile = Field(
        default=AttributeProfile.OTEL, description="Attribute names: `otel`."
    )


class TrustSection(_Section):
    """Which peers are trusted to name the client that they act for."""

    proxies: tuple[Network, ...] = Field(
        default=DEFAULT_TRUSTED_PROXIES,
        description="Addresses or networks of proxies. The client of a connection is the one that their PROXY"
        " protocol header names; a peer on a Unix socket is always trusted. `Forwarded` and `X-Forwarded-For`"
        " are not governed by this key yet.",
    )


class RedactionSection(_Section):
    """Credentials out of what is exported."""

    enabled: bool = Field(
        default=True, description="Replace credentials before anything is queued, written or shown."
    )
    names: tuple[str, ...] = Field(
        default=(),
        description="Further names of headers, query parameters and members whose values are replaced.",
    )


class OtlpSection(_Section):
    """Delivery to an OTLP receiver. In the environment these keys are OTEL_EXPORTER_OTLP_*."""

    endpoint: str | None = Field(default=None, description="URL of the receiver. Naming it turns OTLP on.")
    protocol: OtlpProtocol | None = Field(default=None, description="`grpc` or `http/protobuf`.")
    headers: dict[str, str] = Field(
        default={}, description="Headers sent with each request, for instance a tenant."
    )
    compression: OtlpCompression | None = Field(default=None, description="`gzip` or `none`.")
    certificate: str | None = Field(
        default=None, description="File of the certificates trusted to sign the receiver's."
    )
    client_certificate: str | None = Field(
        default=None, description="File of this agent's certificate, for mutual TLS."
    )
    client_key: str | None = Field(default=None, description="File of the key of `client_certificate`.")
    insecure: bool | None = Field(default=None, description="Plain text for a gRPC endpoint without scheme.")
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Longest time that one attempt may take; the variable counts milliseconds.",
    )


class OutputSection(_Section):
    """Where spans go besides an OTLP receiver. With no output named at all they are shown in the console."""

    exporters: Annotated[tuple[str, ...], BeforeValidator(_split_exporters)] = Field(
        default=(),
        description="`otlp`, or exporters that are installed for the OpenTelemetry SDK, such as `console`"
        " and `zipkin_json`; `none` alone for no export. Where it is set, an OTLP endpoint turns nothing on.",
    )
    spans_file: str | None = Field(
        default=None, description="File of OTLP/JSON, one `TracesData` per line; `-` is standard output."
    )
    verbose: bool = Field(default=False, description="Show headers and bodies in the console.")


class LimitsSection(_Section):
    """Bounds on memory."""

    connections: int = Field(default=20_000, ge=1, description="Connections tracked at once.")
    buffer_bytes: int = Field(
        default=32 * MIB, ge=MIB, description="Bytes of unfinished messages held by all connections together."
    )
    idle_seconds: float = Field(
        default=300.0,
        gt=0,
        description="A connection silent for longer is finished, what is pending is exported flagged.",
    )


class DockerSection(_Section):
    """The Docker Engine of this host, which is asked what containers are called."""

    socket: str | None = Field(
        default=None,
        description="Its Unix socket. Unset: the one that `DOCKER_HOST` names, else `/var/run/docker.sock` if"
        " it exists.",
    )
    labels: tuple[str, ...] = Field(
        default=DEFAULT_LABELS,
        description="Labels of containers that become attributes `container.label.KEY`: shell patterns over"
        " their keys.",
    )


class AgentSection(_Section):
    """The run itself."""

    duration: float | None = Field(
        default=None, gt=0, description="Seconds after which the run ends by itself."
    )
    health_listen: Annotated[ListenAddress, BeforeValidator(_parse_listen_address)] | None = Field(
        default=None, description="HOST:PORT of `/healthz`, `/readyz` and `/metrics`."
    )
    shutdown_timeout: float = Field(
        default=10.0,
        gt=0,
        description="Seconds within which a stop finishes, delivery of what is queued included.",
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="`debug`, `info`, `warning` or `error`.")
    log_format: LogFormat = Field(default=LogFormat.TEXT, description="`text` or `json`.")


class Configuration(_Section):
    """Everything that can be configured, in the sections of the file."""

    capture: CaptureSection = CaptureSection()
    kubernetes: KubernetesSection = KubernetesSection()
    tls: TlsSection = TlsSection()
    content: ContentSection = ContentSection()
    trust: TrustSection = TrustSection()
    redaction: RedactionSection = RedactionSection()
    otlp: OtlpSection = OtlpSection()
    output: OutputSection = OutputSection()
    limits: LimitsSection = LimitsSection()
    docker: DockerSection = DockerSection()
    agent: AgentSection = AgentSection()

    @property
    def captures_bodies(self) -> bool:
        """Whether bodies of some process may be captured: a pod can ask for those that others go without."""
        return (self.content.bodies or self.kubernetes.enabled) and self.content.max_body > 0

    def without_pods(self) -> Configuration:
        """Return a copy without pod discovery, so that annotations can't ask for anything."""
        return self.model_copy(update={"kubernetes": KubernetesSection()})

    def selection_rules(self) -> SelectionRules:
        """Return which processes are captured."""
        return SelectionRules(
            pids=self.capture.pids,
            executables=self.capture.executables,
            containers=self.capture.containers,
            pods=self.kubernetes.enabled,
            direction=self.capture.direction,
            tls_excluded=self.tls.exclude_executables if self.tls.enabled else (),
        )

    def kubernetes_options(self) -> KubernetesOptions:
        """Return how pods are discovered, and which are captured."""
        section = self.kubernetes
        return KubernetesOptions(
            node=section.node or default_node(os.environ),
            rules=CaptureRules(
                default=section.default,
                namespaces=section.namespaces,
                exclude_namespaces=section.exclude_namespaces,
                selector=section.selector,
                ingress_selector=section.ingress_selector,
                egress_selector=section.egress_selector,
                direction=self.capture.direction,
                bodies=self.content.bodies,
            ),
            kubeconfig=section.kubeconfig,
            cluster_name=section.cluster_name,
            labels=section.labels,
            annotations=section.annotations,
        )

    def capture_options(self) -> CaptureOptions:
        """Return what the kernel side captures."""
        rules = self.selection_rules()
        limits = self.parser_limits()
        return CaptureOptions(
            ports=frozenset(self.capture.ports),
            turn_budget=limits.max_header_block + (limits.max_body if limits.capture_bodies else 0),
            header_budget=limits.max_header_block,
            ring_bytes=self.capture.ring_bytes,
            default_policy=rules.default_policy,
            undecided_at_exec=rules.decides_at_exec,
            tls=self.tls.enabled,
        )

    def parser_limits(self) -> ParserLimits:
        """Return the bounds of the parsers."""
        return ParserLimits(
            max_body=self.content.max_body,
            capture_bodies=self.captures_bodies,
            max_connections=self.limits.connections,
            max_total_buffer=self.limits.buffer_bytes,
            idle_ns=int(self.limits.idle_seconds * 1_000_000_000),
        )
