"""Validating the settings of the pre-training methods, each by its own model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from voxseq.config.methods.base import MethodSettings, Surroundings
from voxseq.config.problems import Problem, of_validation
from voxseq.config.registry import pretrained
from voxseq.config.root import Config

METHODS = "pretrain.methods"
DIVISION = "execution.pretrain"


def with_settings(config: Config) -> tuple[Config, dict[str, MethodSettings], list[Problem]]:
    """Fill in the defaults of every method's settings.

    Returns:
        The configuration with complete settings; these as models; and what is wrong with them: an
        unknown method, or a setting that its model refuses.
    """
    found, wrong = settings_of(config.pretrain.methods)
    methods = {name: settings.model_dump(mode="json") for name, settings in found.items()}
    complete = config.pretrain.model_copy(update={"methods": methods})
    return config.model_copy(update={"pretrain": complete}), found, wrong


def settings_of(
    methods: Mapping[str, Any],
) -> tuple[dict[str, MethodSettings], list[Problem]]:
    """The settings of methods as models, and what is wrong with them."""
    known = pretrained()
    found: dict[str, MethodSettings] = {}
    wrong: list[Problem] = []
    for name, given in methods.items():
        key = f"{METHODS}.{name}"
        if name not in known:
            text = f"there is no such pre-training method; choose from {', '.join(known)}"
            wrong.append(Problem(key, text))
            continue
        model = known[name].settings
        assert model is not None
        try:
            found[name] = model.model_validate(given)
        except ValidationError as error:
            wrong += of_validation(error, model, key)
    return found, wrong


def of_methods(config: Config, settings: Mapping[str, MethodSettings]) -> Iterator[Problem]:
    """Settings of methods that do not fit the encoder, the data or the batch."""
    sources = {source.dataset for source in config.sequences.sources}
    around = Surroundings(
        encoder=config.encoder,
        sequences=config.sequences,
        steps=config.pretrain.steps,
        batch_size=config.pretrain.batch_size,
        modalities=frozenset(
            word for name in sources for word in config.data.dataset(name).modality.split(" and ")
        ),
    )
    for name, own in settings.items():
        for key, text in own.misfits(around):
            yield Problem(".".join([METHODS, name, *([key] if key else [])]), text)


def of_division(config: Config) -> Iterator[Problem]:
    """Ways of dividing a batch that a method does not allow."""
    asked, size = config.execution.pretrain, config.pretrain.batch_size
    for name in ("", *asked.accumulate):
        parts = asked.processes * asked.accumulate.get(name, 1)
        if size % parts:
            key = f" and {DIVISION}.accumulate.{name}" if name else ""
            yield Problem(
                "pretrain.batch_size",
                f"{size} does not divide into {parts} equal parts, which {DIVISION}.processes{key} "
                "ask for",
            )
    yield from _accumulation(config)
    yield from _recomputation(config)


def _recomputation(config: Config) -> Iterator[Problem]:
    chosen = config.execution.pretrain.recompute
    for name in () if isinstance(chosen, bool) else chosen:
        if name not in pretrained():
            possible = ", ".join(pretrained())
            yield Problem(
                f"{DIVISION}.recompute", f"{name}: there is no such method; expected of {possible}"
            )


def _accumulation(config: Config) -> Iterator[Problem]:
    known = pretrained()
    able = [n for n, row in known.items() if row.settings and row.settings.accumulates]
    for name, parts in config.execution.pretrain.accumulate.items():
        if name not in known or (parts > 1 and name not in able):
            reason = "there is no such pre-training method"
            if name in known:
                reason = "its items meet in the loss or in statistics of the batch"
            yield Problem(
                f"{DIVISION}.accumulate.{name}",
                f"{reason}; possible for {', '.join(able)}; use more processes, or "
                "recompute: true, for the others",
            )
