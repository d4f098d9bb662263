from __future__ import annotations

import sys
from typing import Any

import pytest

from parsers.json_text import MAX_CUT_VALUES, CutText, JsonReading, read_json

# Beyond the bound of any Python, which since 3.12 is not that of sys.getrecursionlimit().
TOO_DEEP = 100_000


def whole(text: str) -> Any:
    reading = read_json(text, cut=False)
    assert reading is not None
    assert reading.whole
    return reading.value


def beginning(text: str) -> Any:
    reading = read_json(text, cut=True)
    assert reading is not None
    assert not reading.whole
    return reading.value


def test_a_whole_text_is_read() -> None:
    assert whole('{"a": [1, "\\u00e9"]}') == {"a": [1, "é"]}


def test_a_byte_order_mark_is_ignored() -> None:
    assert whole("\ufeff[1]") == [1]


def test_a_whole_text_that_is_marked_cut_is_whole() -> None:
    assert read_json("[1] ", cut=True) == JsonReading([1], True)


@pytest.mark.parametrize("text", ["", " ", "{", "{'a': 1}", '{"a": 1} x', "nothing"])
def test_what_is_no_json_is_not_read(text: str) -> None:
    assert read_json(text, cut=False) is None


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("{", {}),
        ('\ufeff \n{"a', {}),
        ('{"a"', {}),
        ('{"a" 1', {}),
        ('{"a":', {}),
        ('{"a":1', {}),
        ('{"a":1e', {}),
        ('{"a":1.5e+', {}),
        ('{"a":tru', {}),
        ('{"a":true', {}),
        ('{"a":1 ', {}),
        ('{"a":1,', {"a": 1}),
        ('{ "a" : 1 , "b" : [2', {"a": 1}),
        ('{"a":"x"', {"a": "x"}),
        ('{"a":[1]', {"a": [1]}),
        ('{"a":{"b":1}', {"a": {"b": 1}}),
        ('{"a":{"b":1', {}),
        ('{"a":"x","b":"yz', {"a": "x", "b": CutText("yz")}),
        ('{"a":"', {"a": CutText("")}),
        ('{"a":"x\\"y', {"a": CutText('x"y')}),
        ('{"a":"x\\', {"a": CutText("x")}),
        ('{"a":"x\\u', {"a": CutText("x")}),
        ('{"a":"x\\u00e', {"a": CutText("x")}),
        ('{"a":"x\\u00e9', {"a": CutText("xé")}),
        ('{"a":"x\\\\u00e', {"a": CutText("x\\u00e")}),
        ('{"a":"x\\ud83d\\ude0', {"a": CutText("x")}),
        ('{"a":"x\\q', {}),
        ('{"a":"x\ny', {}),
        ('{1:2,"a":1,', {}),
        ('{"a":1;"b":2,', {}),
        ('{"a":1}x', {"a": 1}),
    ],
)
def test_of_a_cut_object_the_members_before_the_cut_are_read(text: str, members: dict[str, Any]) -> None:
    assert beginning(text) == members


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[", []),
        ("[1", []),
        ("[1,", [1]),
        ("[1, 2 ,3", [1, 2]),
        ('["a"', ["a"]),
        ('["a', []),
        ('[{"a":1}, {"b":"c', [{"a": 1}, {"b": CutText("c")}]),
        ('[{"a":1}, {', [{"a": 1}, {}]),
        ("[1, nothing", [1]),
    ],
)
def test_of_a_cut_array_the_items_before_the_cut_are_read(text: str, items: list[Any]) -> None:
    assert beginning(text) == items


@pytest.mark.parametrize("text", ["", '"text', "1", "tru"])
def test_the_beginning_of_anything_else_is_not_read(text: str) -> None:
    reading = read_json(text, cut=True)
    assert reading is None or reading.whole


def test_what_is_nested_too_deep_ends_the_reading() -> None:
    text = '{"a":1,"b":' + "[" * TOO_DEEP + "]" * TOO_DEEP + ',"c":2}'
    assert read_json(text, cut=False) == JsonReading({"a": 1}, False, True)
    assert read_json("[" * TOO_DEEP, cut=False) == JsonReading([], False, True)
    assert read_json('{"a":' * TOO_DEEP, cut=True) == JsonReading({}, False, True)


def test_a_number_of_too_many_digits_ends_the_reading() -> None:
    text = '{"a":1,"b":' + "1" * (sys.get_int_max_str_digits() + 1) + ',"c":2}'
    assert read_json(text, cut=False) == JsonReading({"a": 1}, False, True)


def test_of_a_cut_text_only_so_many_values_are_read() -> None:
    items = read_json("[" + "1," * (MAX_CUT_VALUES + 1), cut=True)
    assert items == JsonReading([1] * MAX_CUT_VALUES, False, True)
    members = read_json("{" + "".join(f'"{number}":1,' for number in range(MAX_CUT_VALUES)), cut=True)
    assert members is not None
    assert members.too_large
    # A name is a value too.
    assert len(members.value) == MAX_CUT_VALUES // 2
