"""Built-in ``detectron2.structures``: per-instance fields of equal length."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch


class Instances:
    """Fields of the M instances of one sample, read and written as attributes.

    A field is any object of length M that can be indexed, such as a tensor, a list or boxes. Names
    that start with an underscore are plain attributes.

    Args:
        image_size: (height, width) in pixels.
        fields: initial fields.
    """

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in fields.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        # copy and pickle look attributes up before _fields exists.
        fields = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"Instances has no field {name!r}, only {sorted(fields)}")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Sets a field.

        Raises:
            ValueError: if its length differs from that of the present fields.
        """
        if self._fields and len(value) != len(self):
            raise ValueError(
                f"field {name!r} has length {len(value)}, but these Instances have {len(self)}"
            )
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Returns whether there is a field of this name."""
        return name in self._fields

    def get(self, name: str) -> Any:
        """Returns a field."""
        return self._fields[name]

    def remove(self, name: str) -> None:
        """Removes a field."""
        del self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Returns the dict of fields itself; changing it changes the Instances."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """Returns new Instances; fields with a method ``to`` are moved or cast by it."""
        moved = {
            name: value.to(*args, **kwargs) if hasattr(value, "to") else value
            for name, value in self._fields.items()
        }
        return Instances(self._image_size, **moved)

    def __getitem__(self, item: int | slice | torch.Tensor) -> Instances:
        """Returns the selected instances of every field.

        Args:
            item: index, slice, or tensor of indices or booleans. An integer keeps the leading
                dimension of the fields, as in Detectron2.
        """
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"index {item} is out of range for {len(self)} instances")
            item = slice(item, item + 1 or None)  # -1 must not end at 0
        selected = {name: value[item] for name, value in self._fields.items()}
        return Instances(self._image_size, **selected)

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise TypeError("Instances without a field have no length")

    def __iter__(self) -> Iterator:
        raise TypeError("Instances cannot be iterated; iterate one of its fields")

    @staticmethod
    def cat(instance_lists: Sequence[Instances]) -> Instances:
        """Concatenates Instances with the same fields and image size.

        Raises:
            ValueError: if the image sizes differ or a field cannot be concatenated.
        """
        first = instance_lists[0]
        if any(other.image_size != first.image_size for other in instance_lists):
            sizes = [other.image_size for other in instance_lists]
            raise ValueError(f"Instances of different image sizes cannot be concatenated: {sizes}")
        result = Instances(first.image_size)
        for name in first.get_fields():
            result.set(name, _cat([other.get(name) for other in instance_lists]))
        return result

    def __repr__(self) -> str:
        length = len(self) if self._fields else 0
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return (
            f"Instances(num_instances={length}, image_size={self._image_size}, fields=[{fields}])"
        )


def _cat(values: list) -> Any:
    """Concatenates the values of one field: tensors, lists, or objects with a static ``cat``."""
    kind = type(values[0])
    if isinstance(values[0], torch.Tensor):
        return torch.cat(values)
    if isinstance(values[0], list):
        return list(itertools.chain.from_iterable(values))
    if hasattr(kind, "cat"):
        return kind.cat(values)
    raise ValueError(
        f"a field of type {kind} cannot be concatenated: it is no tensor or list and has no cat"
    )
