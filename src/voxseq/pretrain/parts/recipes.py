"""Batches of random views that are made by recipes, for the methods that compare views."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from voxseq.pretrain.batching import Batch, Batching, Stream
from voxseq.transforms.views import DRAWN, ViewRecipe


class RecipeBatching(Batching):
    """Views of each volume, one for each recipe.

    Attributes:
        recipes: of the views of an item, in their order.
    """

    recipes: Sequence[ViewRecipe]

    @cached_property
    def drawn(self) -> np.dtype[Any]:  # type: ignore[override]
        """``view``: a record of :data:`DRAWN` for each recipe."""
        return np.dtype([("view", DRAWN, (len(self.recipes),))])

    def draw(self, stream: Stream) -> NDArray[Any]:
        """Draw every view from its own stream."""
        drawn = np.zeros((), self.drawn)
        for number, recipe in enumerate(self.recipes):
            drawn["view"][number] = recipe.draw(self.sequences.image_shape, stream(number))
        return drawn

    def pair(self, volumes: Tensor, drawn: NDArray[Any]) -> Batch:
        """The views of the first two recipes: ``first`` and ``second``, (B, 1, *shape) float32."""
        views = drawn["view"]
        return {
            name: recipe.make(volumes, views[:, number])
            for number, (name, recipe) in enumerate(
                zip(("first", "second"), self.recipes, strict=True)
            )
        }
