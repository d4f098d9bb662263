"""Ids made by a generator of the OpenTelemetry SDK, such as one that a tracing backend asks for.

Owns the step from the SDK's interface to this stage's. It must not decide which spans need new ids.

Contract: an id is always valid. Where a generator raises, or gives a number that is no id, `fallback` makes
the id; that is logged once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from otel_bridge.sdk.components import ID_GENERATORS, SdkSettingError, load_component
from otel_bridge.spans.span_ids import IdGenerator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import IdGenerator as SdkIdGenerator

ID_GENERATOR_VARIABLE = "OTEL_PYTHON_ID_GENERATOR"

_TRACE_ID_BYTES = 16
_SPAN_ID_BYTES = 8

_logger = logging.getLogger(__name__)


class SdkIds:
    """An `IdGenerator` that asks one of the SDK's."""

    __slots__ = ("_failed", "_fallback", "_generator")

    def __init__(self, generator: SdkIdGenerator, fallback: IdGenerator) -> None:
        self._generator = generator
        self._fallback = fallback
        self._failed = False

    def generate(self, connection_id: int, ordinal: int) -> tuple[bytes, bytes]:
        """Return the trace id and the span id of an exchange, neither all zero."""
        trace_id = self._draw(self._generator.generate_trace_id, _TRACE_ID_BYTES)
        span_id = self._draw(self._generator.generate_span_id, _SPAN_ID_BYTES)
        if trace_id is None or span_id is None:
            other_trace_id, other_span_id = self._fallback.generate(connection_id, ordinal)
            return trace_id or other_trace_id, span_id or other_span_id
        return trace_id, span_id

    def _draw(self, generate: Callable[[], int], size: int) -> bytes | None:
        problem = "0 is no id"
        try:
            if number := generate():
                return number.to_bytes(size, "big")
        except Exception as error:  # noqa: BLE001 - what a foreign generator raises must not end the run
            problem = f"{type(error).__name__}: {error}"
        if not self._failed:
            self._failed = True
            name = type(self._generator).__name__
            _logger.warning("%s gave no valid id, so ids are made without it: %s", name, problem)
        return None


def open_id_generator(default: IdGenerator) -> IdGenerator:
    """Return the generator that OTEL_PYTHON_ID_GENERATOR names, else `default`. Raises SdkSettingError."""
    name = os.environ.get(ID_GENERATOR_VARIABLE, "").strip()
    if not name:
        return default
    construct = load_component(ID_GENERATORS, name, ID_GENERATOR_VARIABLE)
    try:
        return SdkIds(construct(), default)
    except Exception as error:
        raise SdkSettingError(
            f"{ID_GENERATOR_VARIABLE}: `{name}` cannot be used: {type(error).__name__}: {error}"
        ) from error
