"""Section `config` of the chart's values schema, made of the agent's own configuration.

Keys that the chart sets are among them: templates/_checks.tpl refuses them, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from agent.config import Configuration

_NOT_SAID = ("title", "default")
"""Of a key: its name once more, and what docs/configuration.md says."""


def config_schema() -> dict[str, Any]:
    """Return a closed schema of the agent's configuration file."""
    document = Configuration.model_json_schema(schema_generator=_Generator)
    schema: dict[str, Any] = _inline(document, document["$defs"])
    del schema["$defs"]
    # A NamedTuple to Python, HOST:PORT in the file.
    listen = schema["properties"]["agent"]["properties"]["health_listen"]
    schema["properties"]["agent"]["properties"]["health_listen"] = {
        "description": listen["description"],
        "type": "string",
    }
    return schema


class _Generator(GenerateJsonSchema):
    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:  # noqa: ARG002
        """Return what a label selector is in the file."""
        return {"type": "string"}


def _inline(value: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema without references and null: a key that is not set is left out."""
    if isinstance(value, list):
        return [_inline(each, definitions) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        named = definitions[value["$ref"].rpartition("/")[2]]
        value = {**named, **{key: each for key, each in value.items() if key != "$ref"}}
    if "anyOf" in value:
        (accepted,) = (each for each in value["anyOf"] if each != {"type": "null"})
        value = {**accepted, **{key: each for key, each in value.items() if key != "anyOf"}}
        return _inline(value, definitions)
    return {
        key: {name: _inline(each, definitions) for name, each in inner.items()}
        if key == "properties"
        else _inline(inner, definitions)
        for key, inner in value.items()
        if key not in _NOT_SAID
    }
