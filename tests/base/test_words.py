"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from voxseq.base.words import several


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (2, "image", "2 images"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
        (2, "batch", "2 batches"),
    ],
)
def test_nouns_agree_with_their_number(count: int, noun: str, text: str) -> None:
    assert several(count, noun) == text
