"""DINO: a student matches the distributions of its own moving average (Caron et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxseq.config.methods.dino import DINOSettings
from voxseq.models.encoder import Encoder
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch
from voxseq.pretrain.parts.dino_head import DINOHead, dino_loss, mean_entropy, teacher_distribution
from voxseq.pretrain.parts.momentum import frozen_copy, rising_momentum, update_average
from voxseq.pretrain.parts.recipes import RecipeBatching
from voxseq.training.schedule import half_cosine
from voxseq.transforms.views import ViewRecipe


def linear_rise(first: float, last: float, step: int, length: float) -> float:
    """Value that goes from ``first`` at step 0 to ``last`` at step ``length``, and stays there."""
    return first + (last - first) * step / length if step < length else last


@torch.no_grad()
def clip_each(parameters: Sequence[Tensor], largest: float) -> None:
    """Scale the gradient of each parameter down to a norm, each by itself (published code).

    Args:
        parameters: those without a gradient are left out.
        largest: norm above which a gradient is scaled.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            norm = torch.linalg.vector_norm(parameter.grad)
            parameter.grad.mul_((largest / (norm + 1e-6)).clamp(max=1.0))


class DINOBatching(RecipeBatching):
    """Two global and several local views of each volume."""

    settings: DINOSettings

    def build(self) -> None:
        """Make the published recipes: the global views differ in blur and solarisation."""
        settings = self.settings
        local = ViewRecipe(settings.local_shape, settings.local_scale, blur=0.5)
        self.recipes = [
            ViewRecipe(settings.global_shape, settings.global_scale, blur=1.0),
            ViewRecipe(settings.global_shape, settings.global_scale, blur=0.1, solarise=0.2),
            *[local] * settings.local_views,
        ]

    def views(self, volumes: Tensor, drawn: NDArray[Any], is_ct: NDArray[np.bool_]) -> Batch:
        """Make two global and several local views of each volume.

        Returns:
            ``global``: (B, 2, 1, *global_shape) and ``local``: (B, local_views, 1, *local_shape),
            float32.
        """
        del is_ct
        views = drawn["view"]
        large, _, small, *_ = self.recipes
        # Recipes of one shape differ in what they draw only.
        return {
            "global": large.make(volumes, views[:, :2]),
            "local": small.make(volumes, views[:, 2:]),
        }


class DINOMethod(PretrainMethod):
    """Self-distillation without labels on global and local views, from the start token.

    Student: backbone and head, on all views. Teacher: moving averages of both, on the global views
    only; its outputs are centred and sharpened. Nothing else prevents collapse, so the entropy of
    its distributions is logged. The teacher's encoder is transferred.

    Attributes:
        centre: (output_width,) moving mean of the teacher's outputs.
    """

    settings: DINOSettings
    batching_type = DINOBatching
    centre: Tensor

    def build(self) -> None:
        """Make head, teacher and centre."""
        settings = self.settings
        self.head = DINOHead(
            self.encoder_config.width,
            settings.hidden_width,
            settings.bottleneck_width,
            settings.output_width,
        )
        self.teacher_backbone = frozen_copy(self.backbone)
        self.teacher_head = frozen_copy(self.head)
        self.register_buffer("centre", torch.zeros(settings.output_width))

    @property
    def encoder(self) -> Encoder:
        """The teacher's encoder."""
        return self.teacher_backbone

    def teacher_temperature(self, step: int) -> float:
        """Temperature of the teacher's softmax at a step."""
        first, last = self.settings.teacher_temperature, self.settings.final_teacher_temperature
        length = self.settings.teacher_temperature_warmup * self.total_steps
        return linear_rise(first, last, step, length)

    def momentum(self, step: int) -> float:
        """Momentum of the teacher's update after a step: from the initial one to 1."""
        return rising_momentum(self.settings.teacher_momentum, step, self.total_steps)

    def weight_decay(self, step: int) -> float:
        """Weight decay of a step."""
        first, last = self.settings.optimiser.weight_decay, self.settings.final_weight_decay
        return half_cosine(first, last, step, self.total_steps)

    def student_outputs(self, batch: Batch) -> Tensor:
        """The student's outputs for all views.

        Returns:
            (2 + local_views, B, output_width), global views first. All views of one size pass the
            encoder together, all views the head.
        """
        starts = [self.backbone(_by_view(batch[name])).start for name in ("global", "local")]
        return self._split(self.head(torch.cat(starts)), len(batch["global"]))

    @torch.no_grad()
    def teacher_outputs(self, batch: Batch) -> Tensor:
        """The teacher's outputs for the global views: (2, B, output_width)."""
        starts = self.teacher_backbone(_by_view(batch["global"])).start
        return self._split(self.teacher_head(starts), len(batch["global"]))

    @staticmethod
    def _split(outputs: Tensor, samples: int) -> Tensor:
        """(V * B, K), view by view, as (V, B, K) float32."""
        return outputs.float().reshape(-1, samples, outputs.shape[-1])

    @torch.no_grad()
    def update_centre(self, outputs: Tensor) -> None:
        """Move the centre towards the mean of the teacher's outputs (V, B, output_width)."""
        mean = self.shard.mean(outputs.mean(dim=(0, 1)))
        self.centre.lerp_(mean.to(self.centre), 1 - self.settings.centre_momentum)

    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return ``loss`` and ``teacher_entropy``, then move the centre.

        The difference of the two is the mean divergence of the student's distributions from the
        teacher's. Entropy is in nats; ln(output_width) is that of a uniform distribution.
        """
        del generator
        outputs = self.teacher_outputs(batch)
        losses = self._losses(batch, outputs, self.teacher_temperature(step))
        self.update_centre(outputs)
        return losses

    def validation_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the same for views that are drawn once, at the teacher's final temperature.

        Nothing is updated. Teacher and centre move during the training, so the loss tells whether
        the student follows its teacher, not how good the features are.
        """
        del generator
        outputs = self.teacher_outputs(batch)
        return self._losses(batch, outputs, self.settings.final_teacher_temperature)

    def _losses(self, batch: Batch, outputs: Tensor, temperature: float) -> dict[str, Tensor]:
        targets = teacher_distribution(outputs, self.centre, temperature)
        loss = dino_loss(self.student_outputs(batch), targets, self.settings.student_temperature)
        return {"loss": loss, "teacher_entropy": mean_entropy(targets)}

    def before_update(self, step: int, groups: Sequence[dict[str, Any]]) -> None:
        """Set the weight decay, clip each gradient, and drop those of the last layer at first.

        Only groups that are decayed at all follow the schedule.
        """
        for group in groups:
            if group["name"].endswith(".decay"):
                group["weight_decay"] = self.weight_decay(step)
        parameters = [parameter for group in groups for parameter in group["params"]]
        clip_each(parameters, self.settings.clip_parameter_norm)
        if step < self.settings.frozen_last_layer * self.total_steps:
            for parameter in self.head.last.parameters():
                parameter.grad = None

    def after_step(self, step: int, total: int) -> None:
        """Move the teacher towards the student."""
        del total
        momentum = self.momentum(step)
        update_average(self.teacher_backbone, self.backbone, momentum)
        update_average(self.teacher_head, self.head, momentum)


def _by_view(volumes: Tensor) -> Tensor:
    """(B, V, 1, X, Y, Z) as (V * B, 1, X, Y, Z), view by view."""
    return volumes.transpose(0, 1).flatten(0, 1)
