"""Where the volumes come from: the catalogue's data sets, phantoms, and a user's own data sets.

Apart from :mod:`voxseq.config.data`, so that trainings, which read stores, know no catalogue.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from voxseq import catalogue
from voxseq.base.errors import ConfigError
from voxseq.catalogue import DataSet
from voxseq.config.base import Fraction, Model, NonNegative, NonNegativeFloat, Positive, Title
from voxseq.config.data import PhantomConfig
from voxseq.config.sets import Sets, named_sets


class DataConfig(Model):
    """Where the volumes come from.

    ``root`` is the folder that holds the data sets in their public layouts; without it the
    phantoms are generated. The environment variable ``VOXSEQ_DATA`` overrides it. The folder's
    place is no part of any fingerprint; ``release`` is: change it when the files change.
    """

    root: str | None = Field(None, min_length=1)
    """folder of the real data sets of the catalogue; null: phantoms are generated"""
    sets: Annotated[Sets, BeforeValidator(named_sets)] = Field(default_factory=dict)
    """your own data sets by name, see docs/own-data.md; they are always real, whatever root is"""
    release: Title = "1"
    """name of the state of the files; change it when they change, and all runs that read them are
    done again"""
    phantoms: PhantomConfig = PhantomConfig()
    """phantoms; read only without a root"""
    phantoms_per_job: Positive = 1
    """generated data sets that one workflow job makes, or prepares, in turn: starting a process
    takes as long as a small one"""
    fetch_at_most_gb: NonNegativeFloat = Field(0.0, le=1e6)
    """a data set up to this size that the folder lacks and that needs no account is fetched; 0:
    none is"""
    min_valid_fraction: Fraction = 0.8
    """a data set with a smaller share of usable volumes stops the run"""
    split_seed: NonNegative = 0
    """seed of the random splits by subject"""
    split_ratio: tuple[Fraction, Fraction, Fraction] = (0.7, 0.1, 0.2)
    """training, validation and test shares of tasks without published lists (paper: 7:1:2); they
    sum to 1"""
    validation_fraction: Fraction = 0.1
    """share of a published training list that is held out for validation"""

    @model_validator(mode="after")
    def _ratios_sum_to_one(self) -> DataConfig:
        if abs(sum(self.split_ratio) - 1.0) > 1e-6:
            raise ValueError(f"split_ratio sums to {sum(self.split_ratio):g}, expected 1")
        return self

    def dataset(self, name: str) -> DataSet:
        """The data set called ``name``: one of ``sets``, else of the catalogue.

        Raises:
            ConfigError: there is none; the message names the nearest.
        """
        if name in self.sets:
            return self.sets[name]
        try:
            return catalogue.get(name)
        except ConfigError as error:
            own = f"; data.sets has {', '.join(self.sets)}" if self.sets else ""
            raise ConfigError(error.what, f"{error.hint}{own}") from None

    def is_phantom(self, name: str) -> bool:
        """Whether phantoms stand for the data set called ``name``."""
        return self.root is None and name not in self.sets
