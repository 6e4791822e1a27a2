"""Submission boxes as the text that they are written as."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class EncodedSubmission(Mapping[str, list[dict[str, Any]]]):
    """Submission boxes by sample token (see ``submission.py``), kept as JSON.

    A box as a dict is some thirty objects, and an evaluation has millions of boxes; as text those
    of a sample are one object. They are decoded each time they are asked for.

    Attributes:
        texts: the JSON list of a sample's boxes by sample token.
    """

    def __init__(self, texts: Mapping[str, bytes] | None = None) -> None:
        self.texts = dict(texts or {})

    def add(self, sample_token: str, boxes: Sequence[dict[str, Any]]) -> None:
        """Adds the boxes of a sample, unless it has some already."""
        if sample_token not in self.texts:
            self.texts[sample_token] = json.dumps(boxes).encode()

    def in_order(self, sample_tokens: Sequence[str]) -> EncodedSubmission:
        """The same with these samples, in this order."""
        return EncodedSubmission({token: self.texts[token] for token in sample_tokens})

    def __getitem__(self, sample_token: str) -> list[dict[str, Any]]:
        return json.loads(self.texts[sample_token])

    def __contains__(self, sample_token: object) -> bool:
        return sample_token in self.texts

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)
