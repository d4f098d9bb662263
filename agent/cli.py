"""The command line: `run`, `record`, `replay`, `check`, `demo`, their options and exit codes.

Owns names and help of the options, and what reaches the user when something is wrong: one message on
standard error that says what to do, never a traceback. Exit codes: 0 done; 1 a bug, or a demo whose numbers
don't add up; 2 wrong usage or configuration, or an input that is damaged; 3 this host cannot capture.

A command imports what it needs when it runs: `--help` answers at once, and `replay` works where nothing can
be captured.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

from agent.config import Configuration
from agent.config_sources import (
    ConfigurationError,
    Key,
    describe_unknown_variables,
    load_configuration,
)
from agent.logs import configure_logging
from agent.selection_rules import NoSuchProcessError
from agent.workloads.kubernetes.api import ApiError, KubeconfigError
from ebpf.compilation import CaptureUnavailable, Compilation
from ebpf.input_stream import InputError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_HOST = 3

Decorator: TypeAlias = Callable[[Any], Any]
"""What click.option returns."""

log = logging.getLogger(__name__)


def _setting(flag: str, key: str, **attributes: Any) -> Decorator:
    """Declare an option that sets a key of the configuration, `section.name`; not given, it sets nothing."""
    return click.option(flag, key.replace(".", "__"), **attributes)


_seconds = click.FloatRange(min=0, min_open=True)

WHAT = (
    _setting(
        "--pid",
        "capture.pids",
        multiple=True,
        type=click.IntRange(min=1),
        metavar="N",
        help="This process and its descendants.",
    ),
    _setting(
        "--exe",
        "capture.executables",
        multiple=True,
        metavar="GLOB",
        help="Processes whose executable matches, by path or name: '*nginx*'.",
    ),
    _setting(
        "--container",
        "capture.containers",
        multiple=True,
        metavar="NAME",
        help="Containers with this name or id, or whose name matches: 'shop-*'.",
    ),
    _setting(
        "--port",
        "capture.ports",
        multiple=True,
        type=click.IntRange(1, 65_535),
        metavar="N",
        help="Connections with this port at either end.",
    ),
    _setting(
        "--direction",
        "capture.direction",
        type=click.Choice(["ingress", "egress", "both"]),
        help="Requests served, requests made, or both (the default).",
    ),
)
KUBERNETES = _setting(
    "--kubernetes",
    "kubernetes.enabled",
    is_flag=True,
    default=None,
    help="Pods of this node, as annotations and the configuration say.",
)
TLS = (
    _setting(
        "--tls/--no-tls",
        "tls.enabled",
        default=None,
        help="Take plaintext from TLS libraries (the default), or leave TLS alone.",
    ),
    _setting(
        "--tls-exclude",
        "tls.exclude_executables",
        multiple=True,
        metavar="GLOB",
        help="Leave TLS of processes alone whose executable matches, by path or name.",
    ),
)
MAX_BODY = _setting(
    "--max-body",
    "content.max_body",
    type=click.IntRange(min=0),
    metavar="BYTES",
    help="Bytes kept of each body (131072).",
)
CONTENT = (
    MAX_BODY,
    _setting(
        "--bodies/--no-bodies", "content.bodies", default=None, help="Export bodies, or only their sizes."
    ),
    _setting(
        "--attributes", "content.attributes", type=click.Choice(["otel"]), help="Names of the attributes."
    ),
)
OTLP = (
    _setting("--otlp-endpoint", "otlp.endpoint", metavar="URL", help="Send spans to this OTLP receiver."),
    _setting(
        "--otlp-protocol",
        "otlp.protocol",
        type=click.Choice(["grpc", "http/protobuf"]),
        help="How to send them.",
    ),
)
OUT = (
    *OTLP,
    _setting(
        "--exporter",
        "output.exporters",
        multiple=True,
        metavar="NAME",
        help="Use exporters by name: otlp, none, or any installed for the OpenTelemetry SDK (console, …).",
    ),
    _setting(
        "--spans-file",
        "output.spans_file",
        metavar="PATH",
        help="Write OTLP/JSON, one TracesData per line; - is standard output.",
    ),
    _setting(
        "--verbose",
        "output.verbose",
        is_flag=True,
        default=None,
        help="Show headers and bodies in the console.",
    ),
)
DURATION = _setting(
    "--duration", "agent.duration", type=_seconds, metavar="SECONDS", help="End by itself after this time."
)
HEALTH = _setting(
    "--health-listen",
    "agent.health_listen",
    metavar="HOST:PORT",
    help="Serve /healthz, /readyz and /metrics.",
)
SHUTDOWN = _setting(
    "--shutdown-timeout",
    "agent.shutdown_timeout",
    type=_seconds,
    metavar="SECONDS",
    help="Longest time that a stop may take to deliver what is queued (10).",
)
PROCESS = (
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        envvar="WIRESPAN_CONFIG",
        metavar="FILE",
        help="Configuration file (YAML). Environment and options win over it.",
    ),
    _setting(
        "--log-level",
        "agent.log_level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        help="Least severe log line written.",
    ),
    _setting(
        "--log-format", "agent.log_format", type=click.Choice(["text", "json"]), help="Form of a log line."
    ),
)


def configured(*options: Decorator) -> Decorator:
    """Give a command options, and the configuration made of them as its first argument."""

    def declare(command: Callable[..., None]) -> Callable[..., Any]:
        @functools.wraps(command)
        def configure(config_file: Path | None, **values: Any) -> None:
            given: dict[Key, tuple[str, object]] = {}
            own: dict[str, Any] = {}
            for name, value in values.items():
                section, separator, key = name.partition("__")
                if not separator:
                    own[name] = value
                elif value is not None and value != ():
                    given[section, key] = (_flag_of(name), value)
            configuration = load_configuration(given, os.environ, config_file)
            configure_logging(configuration.agent.log_level, configuration.agent.log_format)
            for warning in describe_unknown_variables(os.environ):
                log.warning("%s", warning)
            command(configuration, **own)

        # The decorator applied last stands first in the help.
        declared: Callable[..., Any] = configure
        for option in reversed((*options, *PROCESS)):
            declared = option(declared)
        return declared

    return declare


def _flag_of(name: str) -> str:
    parameters = click.get_current_context().command.params
    return next(parameter.opts[0] for parameter in parameters if parameter.name == name)


class OneMessageGroup(click.Group):
    """A group that turns every failure into one message and its exit code; commands in their order here."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (the signature is click's)
        """Return the commands in the order of their declaration."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and end with the exit code of what it raised."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The reader of the output has seen enough. Python's flush at exit must not complain of it either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (
            ConfigurationError,
            KubeconfigError,
            NoSuchProcessError,
            InputError,
        ) as error:
            _end(ctx, str(error), EXIT_USAGE)
        except CaptureUnavailable as error:
            _end(ctx, f"this host cannot capture: {error.cause}\n{error.remedy}", EXIT_HOST)
        except ApiError as error:
            _end(ctx, f"Kubernetes API: {error}", EXIT_HOST)
        except Exception as error:
            log.debug("where it happened", exc_info=error)
            message = f"a bug: {type(error).__name__}: {error}\n`--log-level debug` shows where it happened"
            _end(ctx, message, EXIT_FAILURE)


def _end(context: click.Context, message: str, code: int) -> None:
    click.echo(f"wirespan: {message}", err=True)
    context.exit(code)


@click.group(
    cls=OneMessageGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(importlib.metadata.version("wirespan"), prog_name="wirespan")
def main() -> None:
    """See the HTTP traffic of this host as OpenTelemetry traces, without touching the applications."""


@main.command()
@configured(*WHAT, KUBERNETES, *TLS, *CONTENT, *OUT, DURATION, HEALTH, SHUTDOWN)
def run(configuration: Configuration) -> None:
    """Capture and export.

    Without options every HTTP exchange of the host is shown in the console. Naming an output replaces the
    console. An option given twice widens the selection, different options narrow it.
    """
    # The compiler works while the rest of the agent is imported and opened.
    kernel_side = Compilation(configuration.capture_options())
    try:
        from agent.session import run_live

        run_live(configuration, kernel_side)
    finally:
        kernel_side.abandon()


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@configured(*WHAT, KUBERNETES, *TLS, MAX_BODY, DURATION)
def record(configuration: Configuration, file: Path) -> None:
    """Capture into FILE, without parsing; an existing file is replaced.

    The recording holds the traffic as it was, credentials included, and can be read by its owner only.
    """
    from agent.session import record_live

    record_live(configuration, file)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@configured(*CONTENT, *OUT, SHUTDOWN)
def replay(configuration: Configuration, file: Path) -> None:
    """Export what FILE holds as `run` would have. Needs neither root nor bcc.

    FILE is a recording made by `record`, or a packet capture (pcap or pcapng), as it is or compressed (gzip,
    bzip2, xz, zstd). A packet capture says nothing of processes: a service goes by the address and port of
    its server.

    FILE may be a pipe, and - is standard input: `tcpdump -U -w - | wirespan replay -`. Spans come as packets
    do; -U has tcpdump write each at once.

    An input that ends too early is read to its end, with a warning. One that is damaged is read up to the
    damage; then the exit code is 2.
    """
    from agent.session import replay_recording

    replay_recording(configuration, file)


@main.command()
@click.option(
    "--format", "report_format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option("--kubernetes", "of_pods", is_flag=True, help="The pods of this node in place of the host.")
@configured()
def check(configuration: Configuration, report_format: str, of_pods: bool) -> None:  # noqa: FBT001 (click's)
    """Say what this host supports, what would stop a run, and what mends it.

    With --kubernetes: whether each pod of this node is captured, in which direction, and by which rule.
    """
    if of_pods:
        from agent.workloads.kubernetes.report import report as report_pods

        click.echo(report_pods(configuration.kubernetes_options(), report_format))
        return
    from agent.check import report

    text, satisfied = report(configuration, report_format)
    click.echo(text)
    if not satisfied:
        click.get_current_context().exit(EXIT_HOST)


@main.command()
@click.option(
    "--requests",
    type=click.IntRange(1, 10_000),
    default=60,
    show_default=True,
    help="Requests sent in total.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 600),
    default=4.0,
    show_default=True,
    help="Time they are spread over.",
)
@configured(*OTLP)
def demo(configuration: Configuration, requests: int, seconds: float) -> None:
    """Start a sample API, send traffic to it, and show the spans of it as they come."""
    from demo.command.run import run_demo

    problem = run_demo(configuration, requests=requests, seconds=seconds)
    if problem:
        click.echo(f"wirespan: {problem}", err=True)
        click.get_current_context().exit(EXIT_FAILURE)
