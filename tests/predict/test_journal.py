"""What a folder of predictions says when others are to be written there."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxseq.base.errors import DataError
from voxseq.predict.journal import Journal


def test_other_models_are_named_without_their_checksums(tmp_path: Path) -> None:
    Journal(tmp_path, {"models": ["one"], "weights": ["abc"]})
    with pytest.raises(DataError) as caught:
        Journal(tmp_path, {"models": ["two"], "weights": ["def"]})
    assert "(models: ['one'], now ['two'])" in caught.value.what


def test_other_weights_of_the_same_name_are_told(tmp_path: Path) -> None:
    Journal(tmp_path, {"models": ["one"], "weights": ["abc"]})
    with pytest.raises(DataError, match=r"weights: .'abc'., now .'def'."):
        Journal(tmp_path, {"models": ["one"], "weights": ["def"]})
