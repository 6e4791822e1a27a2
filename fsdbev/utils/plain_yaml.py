"""YAML of unknown origin: plain values, without aliases and duplicate keys. What a config of such
values may refer to (``${key}``) is limited too, by :func:`check_size`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

_TYPES = ("null", "bool", "int", "float", "str", "seq", "map")


def parse_yaml(text: str) -> Any:
    """Parses a document. Nothing in it is imported or called, and no part of it can multiply.

    Raises:
        ValueError: it cannot be parsed, has an alias, a merge (``<<``), a key twice, or anything
            but texts, numbers, truth values, nulls, lists and mappings.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"can't be parsed: {error}") from error


def check_keys(keys: Iterable[Any]) -> None:
    """Checks the keys of one mapping; ``1`` and ``"1"`` count as the same key.

    Raises:
        ValueError: a key is no text or whole number, or is there twice.
    """
    counts = Counter()
    for key in keys:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise ValueError(f"a key must be text or a whole number, got a {type(key).__name__}")
        counts[str(key)] += 1
    twice = sorted(key for key, count in counts.items() if count > 1)
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice")


def values_of(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """All values in plain dicts and lists with their dotted places, outer ones first."""
    yield place, content
    if isinstance(content, dict | list):
        for key, item in content.items() if isinstance(content, dict) else enumerate(content):
            yield from values_of(item, f"{place}.{key}" if place else str(key))


def check_size(cfg: DictConfig, max_values: int) -> None:
    """Counts the values of a config, those behind a reference once for each reference to them, as
    a few references can stand for billions of values.

    Raises:
        ValueError: there are more than ``max_values``; so there are if references go in a circle.
    """
    nodes, count = [cfg], 0
    for node in nodes:  # which grows on the way
        count += len(node)
        if count > max_values:
            raise ValueError(f"its references lead to over {max_values} values, or in a circle")
        for key in node if isinstance(node, DictConfig) else range(len(node)):
            try:
                value = node.get(key)
            except InterpolationResolutionError:
                continue  # it leads nowhere; an override may mend that
            if OmegaConf.is_config(value):
                nodes.append(value)


class _PlainLoader(yaml.SafeLoader):
    #: The key that stands for any other type is None; its constructor is an error.
    yaml_constructors = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _TYPES
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        # a merge's key, <<, cannot be constructed, and so is refused here
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        try:
            check_keys(keys)
        except ValueError as error:
            raise ValueError(f"line {node.start_mark.line + 1}: {error}") from error
        return super().construct_mapping(node, deep)
