"""Components of the OpenTelemetry SDK that are installed here, such as exporters and id generators.

Owns finding a component by the name that its distribution registered (an entry point) and importing it. It
must not construct a component, and it imports nothing of OpenTelemetry itself.

Contract: a name that is not installed, or whose import fails, raises `SdkSettingError`. The message names the
setting and lists what is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

EXPORTERS = "opentelemetry_traces_exporter"
ID_GENERATORS = "opentelemetry_id_generator"
RESOURCE_DETECTORS = "opentelemetry_resource_detector"
"""The SDK's entry point groups."""


class SdkSettingError(ValueError):
    """A setting of the SDK cannot be used; the message names it and says what it accepts."""


def installed_components(group: str) -> list[str]:
    """Return the names that are installed under an entry point group, in alphabetical order."""
    return sorted(set(entry_points(group=group).names))


def require_component(group: str, name: str, setting: str) -> None:
    """Raise SdkSettingError unless the name, which `setting` gives, is installed."""
    installed = installed_components(group)
    if name not in installed:
        raise SdkSettingError(f"{setting}: `{name}` is not installed; installed are: {', '.join(installed)}")


def load_component(group: str, name: str, setting: str) -> Callable[[], Any]:
    """Import the component and return what constructs it. Raises SdkSettingError."""
    require_component(group, name, setting)
    entry_point = next(iter(entry_points(group=group, name=name)))
    try:
        component: Callable[[], Any] = entry_point.load()
    except Exception as error:
        raise SdkSettingError(
            f"{setting}: `{name}` ({entry_point.value}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return component
