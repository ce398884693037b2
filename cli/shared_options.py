"""Options shared by several commands. Imports only click, so that help is fast."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from prdsim.errors import did_you_mean
from prdsim.words import shown


class _FileName(click.Path):
    """The name of a file or folder; whoever opens it says what is wrong with it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not os.fspath(value):
            self.fail("the name is empty", param, ctx)
        return Path(value)


FILE_NAME = _FileName(path_type=Path)


class HintingGroup(click.Group):
    """A group of commands that knows what an unknown one may be meant to be."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; raises click's `UsageError`."""
        if self.get_command(ctx, args[0]) is None:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            ctx.fail(f"No such command '{shown(args[0])}'" + (f"; {hint}" if hint else "."))
        return super().resolve_command(ctx, args)


def settings_option(help_text: str = "set any key; may be repeated") -> Callable[..., Any]:
    """Return the option --set, for configuration keys as text."""
    return click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=help_text)


def takes_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument CONFIG, a TOML file, and the option --set."""
    argument = click.argument("config", required=False, type=FILE_NAME)
    decorated: Callable[..., Any] = argument(settings_option()(command))
    return decorated


def backends_option(verb: str) -> Callable[..., Any]:
    """Return the option --backend of commands that accept several."""
    return click.option(
        "--backend",
        "backends",
        multiple=True,
        metavar="NAME",
        help=f"{verb} this one; may be repeated  [all available]",
    )


def takes_table_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --format, --output and --force for tables."""
    form = click.option(
        "--format",
        "form",
        type=click.Choice(["table", "csv", "json"]),
        help="[table; with -o: by its suffix]",
    )
    output = click.option(
        "-o", "--output", type=FILE_NAME, help="write to a .csv, .json, .txt file"
    )
    force = click.option("--force", is_flag=True, help="overwrite the output")
    decorated: Callable[..., Any] = form(output(force(command)))
    return decorated
