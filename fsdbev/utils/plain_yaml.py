"""Parsing of untrusted YAML: only plain values, without aliases and duplicate keys.

:func:`check_references` and :func:`check_size` limit what a config can do with references
(``${key}``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

_REFERENCE = re.compile(r"\$\{\.*\w+(\.\w+)*\}")
#: Limit of references inside longer texts, each of which may repeat the text that it refers to.
MAX_INSIDE = 6
#: Limit of all references: each is resolved through those that it leads to.
MAX_REFERENCES = 250
#: Tags of YAML's core schema that are accepted.
_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")


def parse_yaml(text: str) -> Any:
    """Parses a YAML document without importing or calling anything that it names.

    Raises:
        ValueError: the document has a syntax error, an alias, a merge (``<<``), a duplicate key, or
            a value other than text, number, boolean, null, list and mapping.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, RecursionError) as error:  # RecursionError: nested too deeply
        raise ValueError(f"can't be parsed: {error}") from error


def check_keys(keys: Iterable[Any]) -> None:
    """Checks the keys of one mapping; ``1`` and ``"1"`` count as the same key.

    Raises:
        ValueError: a key is not text or an integer, or appears twice.
    """
    counts = Counter()
    for key in keys:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise ValueError(f"a key must be text or a whole number, got a {type(key).__name__}")
        counts[str(key)] += 1
    duplicates = sorted(key for key, count in counts.items() if count > 1)
    if duplicates:
        raise ValueError(f"{', '.join(duplicates)} appears twice")


def iter_values(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted place, value) of all values in nested dicts and lists, outer ones first.

    Args:
        content: a dict, a list or a single value.
        place: dotted place of ``content`` itself.
    """
    yield place, content
    if isinstance(content, dict | list):
        for key, item in content.items() if isinstance(content, dict) else enumerate(content):
            yield from iter_values(item, f"{place}.{key}" if place else str(key))


def check_references(content: Any) -> None:
    """Checks that every ``${...}`` of a document only refers to another key.

    Raises:
        ValueError: a text has a resolver (``${oc.env:HOME}``), a nested reference or an escape, or
            there are more than ``MAX_REFERENCES``, or more than ``MAX_INSIDE`` inside longer texts.
    """
    num_inside = num_all = 0
    for place, text in iter_values(content):
        if isinstance(text, str) and "${" in text:
            rest, num_references = _REFERENCE.subn("", text)
            if any(character in rest for character in "${}\\"):
                raise ValueError(f"{place}: {text[:200]!r} is more than references like ${{a.b}}")
            num_all += num_references
            num_inside += num_references if rest or num_references > 1 else 0
    if num_inside > MAX_INSIDE:
        raise ValueError(f"{num_inside} references are inside longer texts, at most {MAX_INSIDE}")
    if num_all > MAX_REFERENCES:
        raise ValueError(f"{num_all} references, at most {MAX_REFERENCES}")


def check_size(cfg: DictConfig, max_values: int) -> None:
    """Checks the size of a config after references are resolved.

    Raises:
        ValueError: there are more than ``max_values`` values, or texts of more characters than 100
            for each of them; or the references form a cycle, or a text joins others to ``${``.
    """
    # Nothing is copied: a few references to lists of references can stand for billions of values. A
    # cycle never ends and therefore reaches the limit as well.
    nodes, count = [cfg], 0
    for node in nodes:  # the loop below appends to this list
        count += len(node)
        for key in node if isinstance(node, DictConfig) else range(len(node)):
            try:
                value = node.get(key)
            except InterpolationResolutionError:
                continue  # the key does not exist; an override may still set it
            if OmegaConf.is_config(value):
                nodes.append(value)
            elif isinstance(value, str):
                count += len(value) // 100
                # Resolved once more, it would be a reference that check_references has not seen.
                if "${" in value:
                    raise ValueError(f"{key}: the text that its references lead to contains ${{")
            if count > max_values:
                raise ValueError(
                    f"its references expand to over {max_values} values, or form a cycle"
                )


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, restricted to the tags of ``_TAGS`` and without aliases."""

    #: The key None applies to all other tags; its constructor raises an error.
    yaml_constructors = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _TAGS
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        # SafeLoader would silently keep the last of two equal keys. The key of a merge (<<) has no
        # constructor and raises an error here.
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        try:
            check_keys(keys)
        except ValueError as error:
            raise ValueError(f"line {node.start_mark.line + 1}: {error}") from error
        return super().construct_mapping(node, deep)
