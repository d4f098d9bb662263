"""Ids of an SDK's generator."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

from otel_bridge.sdk.components import SdkSettingError
from otel_bridge.sdk.id_generator import SdkIds, open_id_generator
from tests.installed_distribution import install_distribution
from tests.unit.otel_bridge.exchanges import CountingIds


class Fixed(IdGenerator):
    def __init__(self, number: int | None) -> None:
        self._number = number

    def generate_trace_id(self) -> int:
        if self._number is None:
            raise RuntimeError("no entropy")
        return self._number

    generate_span_id = generate_trace_id


def test_without_the_variable_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    default = CountingIds()
    for value in ("", " "):
        monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", value)
        assert open_id_generator(default) is default


def test_the_sdks_own_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", "random")
    ids = open_id_generator(CountingIds())
    assert isinstance(ids, SdkIds)
    assert len(ids.trace_id()) == 16
    assert len(ids.span_id()) == 8
    assert ids.trace_id() != ids.trace_id()


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
    ids = open_id_generator(CountingIds())
    assert ids.trace_id() == (77).to_bytes(16, "big")
    assert ids.span_id() == (7).to_bytes(8, "big")
    monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", "broken")
    with pytest.raises(SdkSettingError, match="OTEL_PYTHON_ID_GENERATOR: `broken` cannot be used: OSError"):
        open_id_generator(CountingIds())
    monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", "eights")
    with pytest.raises(
        SdkSettingError, match="`eights` is not installed; installed are: broken, random, sevens"
    ):
        open_id_generator(CountingIds())


@pytest.mark.parametrize("number", [0, -1, 1 << 128, None])
def test_what_is_no_id_is_replaced_and_said_once(
    number: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    ids = SdkIds(Fixed(number), CountingIds())
    assert [ids.trace_id(), ids.trace_id()] == [n.to_bytes(16, "big") for n in (1, 2)]
    assert ids.span_id() == (3).to_bytes(8, "big")
    assert len(caplog.records) == 1
    assert "Fixed gave no valid id" in caplog.text


def test_a_valid_id_is_taken_as_it_is() -> None:
    ids = SdkIds(RandomIdGenerator(), CountingIds())
    assert all(int.from_bytes(ids.span_id(), "big") > 0 for _ in range(100))
