"""A group whose help lists its commands by what they are for."""

from __future__ import annotations

from collections.abc import Sequence

import click

#: Commands that no section names.
_REST = "Commands"
#: Characters of a command's first sentence that are shown: all.
_WHOLE = 200


class Sections(click.Group):
    """Commands in sections, in the order in which they are added."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.sections: dict[str, list[str]] = {}

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands under a title of the help."""
        for command in commands:
            self.add_command(command)
            self.sections.setdefault(title, []).append(str(command.name))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names: those of the sections first."""
        named = [name for names in self.sections.values() for name in names]
        return [*named, *sorted(set(self.commands) - set(named))]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, each with a line for each command."""
        named = {name for names in self.sections.values() for name in names}
        rest = sorted(set(self.commands) - named)
        longest = max(map(len, self.commands), default=0)
        for title, names in [*self.sections.items(), (_REST, rest)]:
            rows = [
                (name.ljust(longest), self.commands[name].get_short_help_str(limit=_WHOLE))
                for name in names
                if not self.commands[name].hidden
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
