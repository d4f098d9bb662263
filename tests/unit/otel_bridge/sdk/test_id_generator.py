"""Ids of an SDK's generator."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

from otel_bridge.sdk.components import SdkSettingError
from otel_bridge.sdk.id_generator import SdkIds, open_id_generator
from tests.installed_distribution import install_distribution
from tests.unit.otel_bridge.exchanges import PlainIds


class Fixed(IdGenerator):
    def __init__(self, number: int | None) -> None:
        self._number = number

    def generate_trace_id(self) -> int:
        if self._number is None:
            raise RuntimeError("no entropy")
        return self._number

    generate_span_id = generate_trace_id


def test_without_the_variable_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    default = PlainIds()
    for value in ("", " "):
        monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", value)
        assert open_id_generator(default) is default


def test_the_sdks_own_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", "random")
    ids = open_id_generator(PlainIds())
    assert isinstance(ids, SdkIds)
    trace_id, span_id = ids.generate(1, 1)
    assert (len(trace_id), len(span_id)) == (16, 8)
    assert ids.generate(1, 1) != (trace_id, span_id)


def test_an_installed_one_is_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_distribution(
        tmp_path,
        "seven_ids",
        "from opentelemetry.sdk.trace.id_generator import IdGenerator\n"
        "class Sevens(IdGenerator):\n"
        "    def generate_span_id(self):\n        return 7\n"
        "    def generate_trace_id(self):\n        return 77\n"
        "class Broken(Sevens):\n"
        "    def __init__(self):\n        raise OSError('no clock')\n",
        {"opentelemetry_id_generator": {"sevens": "seven_ids:Sevens", "broken": "seven_ids:Broken"}},
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", "sevens")
    ids = open_id_generator(PlainIds())
    assert ids.generate(1, 1) == ((77).to_bytes(16, "big"), (7).to_bytes(8, "big"))
    monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", "broken")
    with pytest.raises(SdkSettingError, match="OTEL_PYTHON_ID_GENERATOR: `broken` cannot be used: OSError"):
        open_id_generator(PlainIds())
    monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", "eights")
    with pytest.raises(
        SdkSettingError, match="`eights` is not installed; installed are: broken, random, sevens"
    ):
        open_id_generator(PlainIds())


@pytest.mark.parametrize("number", [0, -1, 1 << 128, None])
def test_what_is_no_id_is_replaced_and_said_once(
    number: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    ids = SdkIds(Fixed(number), PlainIds())
    for connection_id, ordinal in ((1, 2), (3, 4)):
        assert ids.generate(connection_id, ordinal) == PlainIds().generate(connection_id, ordinal)
    assert len(caplog.records) == 1
    assert "Fixed gave no valid id" in caplog.text


def test_a_valid_id_is_taken_as_it_is() -> None:
    ids = SdkIds(RandomIdGenerator(), PlainIds())
    assert all(int.from_bytes(each, "big") > 0 for _ in range(100) for each in ids.generate(1, 1))
