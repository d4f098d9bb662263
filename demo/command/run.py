"""The run of the demo: services, capture, traffic, spans as they come, and whether the numbers add up.

Owns what is shown and the judgement at the end. The capture is the real one, limited to the demo's
processes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from typing import TypeAlias
from urllib.parse import urlsplit

import click

from agent.config import CaptureSection, Configuration
from agent.outputs import names_otlp, open_console, open_otlp, span_options
from agent.session import describe_losses, live_pipeline, open_captured_host
from agent.stop import StopRequest
from demo.command.services import DemoUnavailableError, Services
from demo.command.traffic import route_of
from ebpf.compilation import Compilation
from otel_bridge.span import Span, SpanKind, SpanSink

PATIENCE_SECONDS = 4.0
"""How long after the last request missing spans are waited for."""
SHOWN_IN_FULL = frozenset({("POST", "/login"), ("POST", "/orders"), ("GET", "/catalogue")})
"""Exchanges of the API whose headers and bodies are shown, once each."""

VANTAGES = ("client asks", "nginx serves", "nginx asks", "api serves")
"""Who may have seen a request, in the order in which it passes them."""

Key: TypeAlias = tuple[str, str, int]
"""Method, route and status."""


class DemoSink:
    """Shows spans as they come, counts them by the end that saw each, and asks for a stop after the last."""

    name = "console"

    def __init__(self, names: dict[int, str], expected: int, stop: StopRequest) -> None:
        self.seen: dict[str, Counter[Key]] = {}
        self._names = names
        self._expected = expected
        self._stop = stop
        self._brief = open_console(verbose=False)
        self._full = open_console(verbose=True)
        self._to_show = set(SHOWN_IN_FULL)
        self._submitted = 0

    def submit(self, span: Span) -> None:
        """Show a span and count it."""
        key = _key_of(span)
        vantage = self._vantage_of(span)
        self.seen.setdefault(vantage, Counter())[key] += 1
        self._submitted += 1
        if vantage == "api serves" and key[:2] in self._to_show:
            self._to_show.remove(key[:2])
            self._full.submit(span)
        else:
            self._brief.submit(span)
        if self._submitted >= self._expected:
            self._stop.request()

    def flush(self, timeout_seconds: float) -> bool:
        """Write out what the console holds back."""
        return self._brief.flush(timeout_seconds) and self._full.flush(timeout_seconds)

    def counters(self) -> dict[str, int]:
        """Every span that was submitted has been shown."""
        return {"submitted": self._submitted, "exported": self._submitted, "queued": 0}

    def close(self, timeout_seconds: float) -> None:
        """Write out what the console holds back."""
        self._brief.close(timeout_seconds)
        self._full.close(timeout_seconds)

    def _vantage_of(self, span: Span) -> str:
        pid = span.resource.attributes.get("process.pid")
        # nginx answers by workers, which are children of the process that was started.
        name = self._names.get(pid, "nginx") if isinstance(pid, int) else "unknown"
        return f"{name} {'serves' if span.kind is SpanKind.SERVER else 'asks'}"


def run_demo(configuration: Configuration, *, requests: int, seconds: float) -> str | None:
    """Run the demo; return what does not add up, or None when everything does.

    Raises CaptureUnavailable when this host cannot capture, ConfigurationError for a bad setting.
    """
    stop = StopRequest()
    stop.on_signals()
    try:
        with Services(requests, seconds) as services:
            return _show(configuration, services, stop, requests, seconds)
    except DemoUnavailableError as error:
        return str(error)


def _show(
    configuration: Configuration, services: Services, stop: StopRequest, requests: int, seconds: float
) -> str | None:
    started_at = time.monotonic()
    configuration = configuration.without_pods()
    options = span_options(configuration)
    rules = configuration.model_copy(update={"capture": CaptureSection(pids=tuple(services.names))})
    shown = DemoSink(services.names, requests * services.vantages, stop)
    sinks: list[SpanSink] = [shown]
    if names_otlp(configuration, os.environ):
        sinks.append(open_otlp(configuration))
    with contextlib.ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close, configuration.agent.shutdown_timeout)
        kernel_side = Compilation(rules.capture_options())
        closing.callback(kernel_side.abandon)
        host = open_captured_host(rules, options, stop, closing, kernel_side)
        pipeline = live_pipeline(configuration, options, host, sinks)
        _say(f"probes attached after {time.monotonic() - started_at:.1f} s; {requests} requests follow\n")
        services.begin()
        stop.after(seconds + PATIENCE_SECONDS)
        pipeline.run(stop)
        losses = describe_losses(host.source.losses())
    return _summarize(services.tally(), shown.seen, losses)


def _summarize(sent: Counter[Key], seen: dict[str, Counter[Key]], losses: str) -> str | None:
    vantages = sorted(
        seen, key=lambda vantage: VANTAGES.index(vantage) if vantage in VANTAGES else len(VANTAGES)
    )
    rows = sorted(set(sent).union(*seen.values()))
    width = max((len(f"{method} {route}") for method, route, _ in rows), default=0)
    _say(f"\n{'':<{width}}  status  requests  spans: " + "  ".join(vantages))
    for key in rows:
        method, route, status = key
        counts = "  ".join(f"{seen[vantage][key]:>{len(vantage)}}" for vantage in vantages)
        _say(f"{f'{method} {route}':<{width}}  {status:>6}  {sent[key]:>8}         {counts}")
    total = "  ".join(f"{seen[vantage].total():>{len(vantage)}}" for vantage in vantages)
    _say(f"{'total':<{width}}  {'':>6}  {sent.total():>8}         {total}")
    _say(f"lost: {losses or 'nothing'}")
    wrong = [vantage for vantage in vantages if seen[vantage] != sent]
    if not vantages:
        return "the demo saw no span at all"
    if losses:
        return f"the capture lost something: {losses}"
    if wrong:
        return f"the spans of these do not match the requests sent: {', '.join(wrong)}"
    return None


def _key_of(span: Span) -> Key:
    attributes = span.attributes
    path = attributes.get("url.path") or urlsplit(str(attributes.get("url.full", ""))).path
    status = attributes.get("http.response.status_code", 0)
    return (
        str(attributes.get("http.request.method")),
        route_of(str(path)),
        status if isinstance(status, int) else 0,
    )


def _say(line: str) -> None:
    click.echo(line, file=sys.stdout)
