"""The sinks that a configuration names.

Owns the rule which outputs there are: what is named, or else the console. Exporters that are named decide
alone whether OTLP is among them. Each sink's own settings belong to it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping

from agent.config import NO_EXPORTER, OTLP_EXPORTER, Configuration
from agent.config_sources import ConfigurationError
from otel_bridge.delivery.options import (
    ExportConfigurationError,
    ExportOptions,
    is_export_configured,
)
from otel_bridge.resources import ResourceBuilder
from otel_bridge.sdk.components import SdkSettingError
from otel_bridge.sdk.environment import (
    describe_unheeded,
    is_disabled,
    read_host_attributes,
    read_span_limits,
)
from otel_bridge.sdk.id_generator import open_id_generator
from otel_bridge.span import SpanSink
from otel_bridge.spans.options import SpanOptions, known_methods_from_environment
from otel_bridge.spans.span_ids import CaptureIdGenerator, IdGenerator

_SDK_CONSOLE = "console"
"""The SDK's exporter that writes spans to standard output, as JSON."""

log = logging.getLogger(__name__)


def open_sinks(configuration: Configuration, environment: Mapping[str, str] = os.environ) -> list[SpanSink]:
    """Open every output that is named, or the console when none is. Raises ConfigurationError."""
    for message in describe_unheeded(environment):
        log.warning("%s", message)
    if disables_export(environment):
        log.warning("no span is exported, to no output: OTEL_SDK_DISABLED is true")
        return []
    exporters = configuration.output.exporters
    if configuration.otlp.endpoint and exporters and OTLP_EXPORTER not in exporters:
        log.warning("`otlp.endpoint` is not used: `output.exporters` is %s", ", ".join(exporters))
    sinks: list[SpanSink] = []
    if names_otlp(configuration, environment):
        sinks.append(open_otlp(configuration, environment))
    sinks += [_open_exporter(name) for name in exporters if name not in (NO_EXPORTER, OTLP_EXPORTER)]
    if configuration.output.spans_file is not None:
        sinks.append(_open_spans_file(configuration.output.spans_file))
    if not sinks and not exporters:
        sinks.append(open_console(verbose=configuration.output.verbose))
    return sinks


def disables_export(environment: Mapping[str, str]) -> bool:
    """Return whether OTEL_SDK_DISABLED turns off every output. Raises ConfigurationError."""
    try:
        return is_disabled(environment)
    except SdkSettingError as error:
        raise ConfigurationError(str(error)) from None


def names_otlp(configuration: Configuration, environment: Mapping[str, str]) -> bool:
    """Return whether OTLP is an output: by name, or else by endpoint or protocol, in whatever source."""
    if configuration.output.exporters:
        return OTLP_EXPORTER in configuration.output.exporters
    named = configuration.otlp.endpoint or configuration.otlp.protocol
    return bool(named) or is_export_configured(environment)


def uses_standard_output(configuration: Configuration, environment: Mapping[str, str]) -> bool:
    """Return whether spans go to standard output: to either console, or to the spans file `-`."""
    if disables_export(environment):
        return False
    output = configuration.output
    if output.spans_file == "-" or _SDK_CONSOLE in output.exporters:
        return True
    return output.spans_file is None and not output.exporters and not names_otlp(configuration, environment)


def open_console(*, verbose: bool) -> SpanSink:
    """Return the console on standard output, coloured on a terminal that allows it (no-color.org)."""
    from otel_bridge.sinks.console import ConsoleSink

    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return ConsoleSink(sys.stdout, color=color, verbose=verbose)


def span_options(configuration: Configuration) -> SpanOptions:
    """Return what goes into spans. Raises ConfigurationError for a bad value of a standard variable."""
    try:
        limits = read_span_limits()
    except SdkSettingError as error:
        raise ConfigurationError(str(error)) from None
    return SpanOptions(
        capture_headers=configuration.content.headers,
        capture_bodies=configuration.captures_bodies,
        known_methods=known_methods_from_environment(os.environ),
        redaction=configuration.redaction.enabled,
        redacted_names=configuration.redaction.names,
        trusted_proxies=configuration.trust.proxies,
        **limits,
    )


def resource_builder(options: SpanOptions) -> ResourceBuilder:
    """Return a builder with what the environment says of this host. Raises ConfigurationError."""
    try:
        return ResourceBuilder(read_host_attributes(), redactor=options.redactor)
    except SdkSettingError as error:
        raise ConfigurationError(str(error)) from None


def id_generator(read_capture_id: Callable[[], bytes]) -> IdGenerator:
    """Return where span and trace ids come from. Raises ConfigurationError."""
    try:
        return open_id_generator(CaptureIdGenerator(read_capture_id))
    except SdkSettingError as error:
        raise ConfigurationError(str(error)) from None


def open_otlp(configuration: Configuration, environment: Mapping[str, str] = os.environ) -> SpanSink:
    """Return the OTLP sink. Raises ConfigurationError for a setting that it does not accept."""
    # Imported late: with gRPC it is the largest part of the agent's memory.
    from otel_bridge.delivery.otlp_sink import OtlpSink

    otlp = configuration.otlp
    try:
        options = ExportOptions.from_environment(
            environment,
            endpoint=otlp.endpoint,
            protocol=otlp.protocol,
            headers=otlp.headers,
            compression=otlp.compression,
            certificate=otlp.certificate,
            client_certificate=otlp.client_certificate,
            client_key=otlp.client_key,
            insecure=otlp.insecure,
            timeout_seconds=otlp.timeout_seconds,
        )
        return OtlpSink(options)
    except ExportConfigurationError as error:
        raise ConfigurationError(str(error)) from None


def _open_exporter(name: str) -> SpanSink:
    # Imported late: the SDK takes 60 ms and 5 MiB.
    from otel_bridge.sinks.sdk_exporter import open_exporter

    try:
        return open_exporter(name, "`output.exporters` (--exporter, OTEL_TRACES_EXPORTER)")
    except SdkSettingError as error:
        raise ConfigurationError(str(error)) from None


def _open_spans_file(path: str) -> SpanSink:
    from otel_bridge.sinks.spans_file import SpansFileError, SpansFileSink

    try:
        return SpansFileSink(path)
    except SpansFileError as error:
        raise ConfigurationError(str(error)) from None
