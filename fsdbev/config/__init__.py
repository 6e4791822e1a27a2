"""Config files: loading, overrides, YAML rules, plugins and differences from a base."""

from .difference import Change, difference
from .loading import complete_config, config_text, load_config, read_config, resolved
from .overrides import apply_overrides
from .plugins import load_plugins

__all__ = [
    "Change",
    "apply_overrides",
    "config_text",
    "difference",
    "complete_config",
    "load_config",
    "load_plugins",
    "read_config",
    "resolved",
]
