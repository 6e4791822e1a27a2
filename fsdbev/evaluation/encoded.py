"""Submission boxes kept as the JSON text of the submission file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class EncodedSubmission(Mapping[str, list[dict[str, Any]]]):
    """Mapping of sample token -> submission boxes (see ``submission.py``) that stores JSON text.

    A box as a dict is about thirty Python objects and an evaluation has millions of boxes; as text
    all boxes of a sample are one object. Every access decodes the text again.

    Attributes:
        texts: sample token -> JSON list of the sample's boxes.
    """

    def __init__(self, texts: Mapping[str, bytes] | None = None) -> None:
        self.texts = dict(texts or {})

    def add(self, sample_token: str, boxes: Sequence[dict[str, Any]]) -> None:
        """Adds the boxes of a sample; keeps the earlier ones where the sample is present."""
        if sample_token not in self.texts:
            self.texts[sample_token] = json.dumps(boxes).encode()

    def in_order(self, sample_tokens: Sequence[str]) -> EncodedSubmission:
        """Returns the boxes of ``sample_tokens``, in this order."""
        return EncodedSubmission({token: self.texts[token] for token in sample_tokens})

    def __getitem__(self, sample_token: str) -> list[dict[str, Any]]:
        return json.loads(self.texts[sample_token])

    # Mapping's own __contains__ would decode the boxes to find out whether they exist.
    def __contains__(self, sample_token: object) -> bool:
        return sample_token in self.texts

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)
