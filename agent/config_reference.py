"""The reference table of all configuration keys, in Markdown, made from `config` itself.

`python -m agent.config_reference` prints it; docs/configuration.md holds it, and a test holds the two
together.
"""

from __future__ import annotations

import sys
from enum import StrEnum

from agent.config import Configuration
from agent.config_sources import environment_variable, section_keys


def key_table() -> str:
    """Return one table per section: key, default, environment variable, meaning."""
    parts = []
    for section, field in Configuration.model_fields.items():
        parts.append(f"### `{section}`\n\n{field.annotation.__doc__}\n")
        parts.append("| key | default | environment | meaning |\n|---|---|---|---|")
        for name, key in section_keys(section).items():
            variable = environment_variable(section, name)
            parts.append(f"| `{name}` | {_default(key.default)} | `{variable}` | {key.description} |")
        parts.append("")
    return "\n".join(parts)


def _default(value: object) -> str:
    match value:
        case None | () | {}:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case StrEnum():
            return f"`{value.value}`"
        case tuple():
            return ", ".join(f"`{each}`" for each in value)
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(key_table() + "\n")
