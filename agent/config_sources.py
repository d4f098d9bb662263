"""Where the values of the configuration come from: defaults < file < environment < options.

Owns reading and layering, and the messages about values that are not accepted: each names the key, the
place it came from, what is accepted, and a near miss. What the keys are belongs to `config`.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from agent.config import Configuration

Key: TypeAlias = tuple[str, str]
"""Section and key, as in the file."""

ENVIRONMENT_PREFIX = "WIRESPAN_"
OTHER_VARIABLES = frozenset({"WIRESPAN_CONFIG", "WIRESPAN_KERNEL_HEADERS"})
"""Variables of this prefix that are read elsewhere: the file's own path, and bcc's headers."""
MAX_FILE_BYTES = 1_048_576
"""A configuration is a page or two; more is another file given by mistake."""

OTLP_VARIABLES: Mapping[str, tuple[str, ...]] = {
    key: (f"OTEL_EXPORTER_OTLP_TRACES_{suffix}", f"OTEL_EXPORTER_OTLP_{suffix}")
    for key, suffix in {
        "endpoint": "ENDPOINT",
        "protocol": "PROTOCOL",
        "headers": "HEADERS",
        "compression": "COMPRESSION",
        "certificate": "CERTIFICATE",
        "client_certificate": "CLIENT_CERTIFICATE",
        "client_key": "CLIENT_KEY",
        "insecure": "INSECURE",
        "timeout_seconds": "TIMEOUT",
    }.items()
}
"""The standard variables of each key of section `otlp`; the exporter itself reads them, so that each has its
standard meaning. Here they only displace the file's value."""

STANDARD_VARIABLES: Mapping[Key, str] = {("output", "exporters"): "OTEL_TRACES_EXPORTER"}
"""Keys outside section `otlp` whose variable is one of OpenTelemetry's."""


class ConfigurationError(ValueError):
    """A value, key or file is not accepted. The message says which, where it is from and what is accepted."""


def load_configuration(
    options: Mapping[Key, tuple[str, object]], environment: Mapping[str, str], file: Path | None
) -> Configuration:
    """Layer all sources and return the configuration.

    `options` maps a key to the option's name and value. Raises ConfigurationError.
    """
    layers: dict[Key, tuple[str, object]] = {}
    if file is not None:
        layers.update(read_file(file))
    for key, variables in OTLP_VARIABLES.items():
        if any(environment.get(variable) for variable in variables):
            layers.pop(("otlp", key), None)
    layers.update(read_environment(environment))
    layers.update(options)
    values: dict[str, dict[str, object]] = {}
    for (section, name), (_, value) in layers.items():
        values.setdefault(section, {})[name] = value
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_explain(detail, layers) for detail in error.errors())) from None


def read_file(path: Path) -> dict[Key, tuple[str, object]]:
    """Return the values of a YAML file with their origin. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    if len(text) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: larger than {MAX_FILE_BYTES} bytes, so hardly a configuration")
    try:
        document = yaml.load(text, _UniqueKeyLoader)  # noqa: S506 (derived from SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {_describe_yaml_error(error)}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: should hold sections: {', '.join(Configuration.model_fields)}")
    values: dict[Key, tuple[str, object]] = {}
    for section, content in document.items():
        if section not in Configuration.model_fields:
            known = ", ".join(Configuration.model_fields)
            raise ConfigurationError(
                f"{path}: unknown section `{section}`{suggest(str(section), Configuration.model_fields)};"
                f" sections are: {known}"
            )
        if content is None:
            continue
        if not isinstance(content, dict):
            raise ConfigurationError(
                f"{path}: `{section}` should hold keys: {', '.join(section_keys(section))}"
            )
        for name, value in content.items():
            values[section, str(name)] = (str(path), value)
    return values


def read_environment(environment: Mapping[str, str]) -> dict[Key, tuple[str, object]]:
    """Return the values of WIRESPAN_SECTION_KEY variables with their origin. An empty one counts as unset."""
    values: dict[Key, tuple[str, object]] = {}
    for variable, (section, name) in _variables().items():
        text = environment.get(variable)
        if text:
            several = get_origin(section_keys(section)[name].annotation) is tuple
            value: object = [part.strip() for part in text.split(",")] if several else text
            values[section, name] = (variable, value)
    return values


def describe_unknown_variables(environment: Iterable[str]) -> list[str]:
    """Return a warning for each WIRESPAN_ variable that no key has.

    Not an error: Kubernetes sets variables such as WIRESPAN_PORT for a service that is called wirespan.
    """
    known = _variables()
    return [
        f"environment variable {variable} is not known{suggest(variable, known)}"
        for variable in sorted(environment)
        if variable.startswith(ENVIRONMENT_PREFIX)
        and variable not in known
        and variable not in OTHER_VARIABLES
    ]


def environment_variable(section: str, name: str) -> str:
    """Return the environment variable of a key."""
    if section == "otlp":
        return OTLP_VARIABLES[name][1]
    if (section, name) in STANDARD_VARIABLES:
        return STANDARD_VARIABLES[section, name]
    return f"{ENVIRONMENT_PREFIX}{section}_{name}".upper()


def suggest(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean ...?)" when a known word is near, else an empty text."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean `{near[0]}`?)" if near else ""


def section_keys(section: str) -> Mapping[str, FieldInfo]:
    """Return the keys of a section."""
    keys: Mapping[str, FieldInfo] = type(Configuration.model_fields[section].default).model_fields
    return keys


def _variables() -> dict[str, Key]:
    return {
        environment_variable(section, name): (section, name)
        for section in Configuration.model_fields
        if section != "otlp"
        for name in section_keys(section)
    }


def _explain(detail: ErrorDetails, layers: Mapping[Key, tuple[str, object]]) -> str:
    section, name = (str(part) for part in detail["loc"][:2])
    origin, _ = layers[section, name]
    key = f"{section}.{name}"
    if detail["type"] == "extra_forbidden":
        known = section_keys(section)
        near = suggest(name, known)
        return f"{origin}: unknown key `{key}`{near}; keys of `{section}` are: {', '.join(known)}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if key == "otlp.headers":  # their values are credentials as often as not
        return f"{origin}: `{key}` {message}"
    near = suggest(str(detail["input"]), message.split("'")[1::2])
    return f"{origin}: `{key}` {message}, not {detail['input']!r}{near}"


def _describe_yaml_error(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).replace("\n", " ")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML 1.2 §3.2.1.1 requires unique keys in a mapping; PyYAML would keep the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 (the signature is PyYAML's)
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key `{key}` appears twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)
