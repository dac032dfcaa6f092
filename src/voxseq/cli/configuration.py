"""``voxseq config``: show, check and change the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxseq.cli.options import load, overlay_option, params_option

if TYPE_CHECKING:
    from voxseq.config import Config

#: The generated reference of all keys.
REFERENCE = Path("docs/configuration.md")


@click.group()
def config() -> None:
    """Show, check and change the configuration."""


@config.command()
@params_option
@overlay_option
@click.option("--all", "is_all", is_flag=True, help="Every key, defaults included.")
def show(params: Path, overlays: tuple[Path, ...], is_all: bool) -> None:
    """Print the keys whose values differ from the defaults, or every key.

    Both are configurations: written to a file, they mean the same study.
    """
    loaded = load(params, overlays)
    click.echo(as_yaml(everything(loaded) if is_all else differences(loaded)), nl=False)


def everything(loaded: Config) -> dict[str, Any]:
    """Every key with its value."""
    return loaded.model_dump(mode="json")


def differences(loaded: Config) -> dict[str, Any]:
    """The keys whose values are not the defaults, and those that have none."""
    from voxseq.config.finetune import NetworksConfig
    from voxseq.config.registry import pretrained

    found = loaded.model_dump(mode="json", exclude_defaults=True)
    methods = found["pretrain"].get("methods", {})
    for name in methods:
        model = pretrained()[name].settings
        assert model is not None
        settings = model.model_validate(methods[name])
        methods[name] = settings.model_dump(mode="json", exclude_defaults=True)
    # Networks of a task are laid over those of all tasks.
    shared = loaded.finetune.networks.model_dump(mode="json")
    _put(found["finetune"], "networks", _beyond(shared, NetworksConfig().model_dump(mode="json")))
    for name, task in loaded.finetune.tasks.items():
        own = found["finetune"]["tasks"][name]
        found["finetune"]["tasks"][name] = own = {"type": task.type, **own}
        _put(own, "networks", _beyond(task.networks.model_dump(mode="json"), shared))
    return found


def _put(place: dict[str, Any], key: str, value: Mapping[str, Any]) -> None:
    place.pop(key, None)
    if value:
        place[key] = value


def _beyond(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What is not the same in ``base``."""
    found = {}
    for key, value in values.items():
        below = base.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            if inner := _beyond(value, below):
                found[key] = inner
        elif key not in base or value != below:
            found[key] = value
    return found


def as_yaml(content: Mapping[str, Any]) -> str:
    """The text of a configuration."""
    import yaml

    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return text


@config.command()
@params_option
@overlay_option
def check(params: Path, overlays: tuple[Path, ...]) -> None:
    """Check a configuration without doing anything."""
    loaded = load(params, overlays)
    names = " with ".join(", ".join(map(str, part)) for part in ([params], overlays) if part)
    click.echo(f"{names} is valid: scale {loaded.scale}")


@config.command()
@click.option("--write", is_flag=True, help=f"Write {REFERENCE} instead of printing.")
def docs(write: bool) -> None:
    """Print the reference of all keys, generated from the configuration models."""
    from voxseq.config.document import document

    _hand_out(document(), REFERENCE if write else None)


@config.command()
@click.option(
    "--write",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write this file instead of printing.",
)
def schema(write: Path | None) -> None:
    """Print the JSON schema of params.yaml, overlays and studies, for editors."""
    from voxseq.cli.schema import text

    _hand_out(text(), write)


def _hand_out(text: str, path: Path | None) -> None:
    from voxseq.base.files import write_text

    if path is None:
        click.echo(text, nl=False)
    else:
        write_text(path, text)


@config.command()
@click.argument("overlay", type=click.Path(path_type=Path))
@params_option
def use(overlay: Path, params: Path) -> None:
    """Write OVERLAY into params.yaml, so that DVC versions that scale too; comments stay.

    A study that stands alone replaces all of params.yaml, and is written with every key.

    `git checkout params.yaml` brings the demo back.
    """
    from voxseq.base.files import write_text
    from voxseq.config import load_config, read_yaml
    from voxseq.config.overlay import laid_over
    from voxseq.config.standalone import is_standalone

    above = read_yaml(overlay)
    loaded = load_config(params, [above])
    is_own = is_standalone(above)
    write_text(params, as_yaml(everything(loaded)) if is_own else laid_over(params, overlay))
    click.echo(f"{params} now holds scale {loaded.scale}; `git checkout {params}` undoes this")
