"""One seed of a study: the configuration that its runs read, and how they are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voxseq.config import Config
from voxseq.config.registry import Method


@dataclass(frozen=True)
class Chain:
    """One seed, from its phantoms to its scores. It knows nothing of the others.

    Attributes:
        config: of the study, with the phantoms of this seed.
        seed: number of the chain, and seed of its trainings.
    """

    config: Config
    seed: int

    def own(self, name: str) -> str:
        """Name of a run that this seed has for itself."""
        return f"{name}/s{self.seed}"

    def of_dataset(self, name: str, dataset: str) -> str:
        """Name of a run on a data set: of real images there is one for all seeds."""
        return self.own(name) if self.config.data.is_phantom(dataset) else name

    @property
    def sequences(self) -> str:
        """The run of the sequence index, which reads all data sets."""
        config = self.config
        named = {s.dataset for s in config.sequences.sources}
        named |= {task.dataset for task in config.finetune.tasks.values()}
        is_own = any(map(config.data.is_phantom, named))
        return self.own("sequences/all") if is_own else "sequences/all"

    def encoder_of(self, method: Method) -> str | None:
        """The run whose encoder a method's row starts from; one from elsewhere serves all seeds."""
        if not method.is_pretrained:
            return None
        name = f"pretrain/{method.name}"
        return name if method.is_outside else self.own(name)


def chains(config: Config) -> Iterator[Chain]:
    """All seeds of a study, in turn."""
    for seed in range(config.seeds):
        phantoms = config.data.phantoms
        phantoms = phantoms.model_copy(update={"seed": phantoms.seed + seed})
        data = config.data.model_copy(update={"phantoms": phantoms})
        yield Chain(config.model_copy(update={"data": data}), seed)
