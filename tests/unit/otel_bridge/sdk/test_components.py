"""Finding what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_bridge.sdk.components import (
    EXPORTERS,
    ID_GENERATORS,
    RESOURCE_DETECTORS,
    SdkSettingError,
    installed_components,
    load_component,
)
from tests.installed_distribution import install_distribution


def test_the_groups_are_those_under_which_the_sdk_registers_its_own() -> None:
    assert {"console", "otlp", "otlp_proto_grpc", "otlp_proto_http"} <= set(installed_components(EXPORTERS))
    assert "random" in installed_components(ID_GENERATORS)
    assert {"host", "os", "otel", "process"} <= set(installed_components(RESOURCE_DETECTORS))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('not here')", "RuntimeError: not here"),
        ("other = 1", "AttributeError"),
    ],
)
def test_what_cannot_be_imported_is_said_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, problem: str
) -> None:
    name = f"broken_{problem.partition('Error')[0].lower()}"
    install_distribution(tmp_path, name, source, {EXPORTERS: {"broken": f"{name}:Exporter"}})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SdkSettingError, match=rf"--exporter: `broken` \({name}:Exporter\).*{problem}"):
        load_component(EXPORTERS, "broken", "--exporter")
