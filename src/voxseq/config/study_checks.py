"""Checks of label ratios, ablation and rows beyond the paper against the rest."""

from __future__ import annotations

from collections.abc import Iterator

from voxseq.config.data import check_stride
from voxseq.config.problems import Problem
from voxseq.config.root import Config
from voxseq.config.studies import AblationVariant
from voxseq.config.study_rows import study_methods

#: Title of our method's own row in Table 4.
FULL = "Full method"


def of_studies(config: Config) -> Iterator[Problem]:
    """Rows of Tables 3 to 5 that cannot be, change nothing, or cannot be told from others."""
    yield from _ratios(config)
    yield from _variants(config)
    yield from _own_variants(config)


def _ratios(config: Config) -> Iterator[Problem]:
    """Shares of the labels whose runs would have one name, and methods that would have none."""
    types = {config.finetune.tasks[name].type for name in config.label_ratio.tasks}
    rows = study_methods(config)
    for name in config.label_ratio.methods or ():
        if name in rows and types and not types & set(rows[name].networks):
            text = f"{name} has no network for a {' or a '.join(sorted(types))}"
            yield Problem("label_ratio.methods", f"{text}, which all of label_ratio.tasks are")
    shares = [r for r in config.label_ratio.ratios if r < 1.0]
    names = [f"{100 * ratio:g}" for ratio in (1.0, *shares)]
    for place, ratio in enumerate(shares, start=1):
        if names[place] in names[:place]:
            yield Problem(
                "label_ratio.ratios",
                f"{ratio!r} cannot be told from another share of {names[place]} %; expected "
                "shares that differ in their first six digits",
            )


def _variants(config: Config) -> Iterator[Problem]:
    """Rows of Table 4 that cannot be, or change nothing."""
    if not config.ablation.tasks:
        return
    variants = config.ablation.variants
    if variants and "ours" not in config.pretrain.methods:
        yield Problem(
            "ablation.variants", "these are variants of 'ours', which pretrain.methods lacks"
        )
        return
    kinds = {source.kind for source in config.sequences.sources}
    known = {_effect(config, AblationVariant(title=FULL)): "the full method"} if variants else {}
    for name, variant in variants.items():
        key = f"ablation.variants.{name}"
        if variant.stride is not None:
            try:
                check_stride(variant.stride, config.sequences)
            except ValueError as error:
                yield Problem(f"{key}.stride", f"stride {variant.stride}: {error}")
                continue
        if variant.without is not None and kinds == {variant.without}:
            yield Problem(f"{key}.without", f"without {variant.without} no source is left")
            continue
        effect = _effect(config, variant)
        if effect in known:
            yield Problem(
                key, f"changes nothing: it is {known[effect]} once more; expected another setting"
            )
        known.setdefault(effect, key)


def _effect(config: Config, variant: AblationVariant) -> tuple[object, ...]:
    """Settings of our method that a variant is trained with, as far as they act."""
    ours, sequences = config.pretrain.methods["ours"], config.sequences
    uses_sequences = bool(variant.sequences and ours["sequences"])
    kinds = frozenset(s.kind for s in sequences.sources) - {variant.without}
    slides = uses_sequences and "spatial" in kinds
    return (
        uses_sequences,
        kinds,
        variant.attention or ours["attention"],
        variant.token_order or ours["token_order"],
        variant.loss or ours["loss"],
        (variant.stride or sequences.spatial.stride) if slides else None,
    )


def _own_variants(config: Config) -> Iterator[Problem]:
    """Rows of Table 5 in which our method would be what it is anyway."""
    ours = config.pretrain.methods.get("ours", {})
    for key, value, words in (
        ("token_order", "raster", "has tokens in raster order"),
        ("loss", "norm", "has the norm as its loss"),
    ):
        if getattr(config.beyond, key) and ours.get(key) == value:
            yield Problem(
                f"beyond.{key}",
                f"our method {words} already (pretrain.methods.ours.{key}), so the row would "
                "change nothing",
            )
