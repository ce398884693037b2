"""Options shared by several commands. Imports only click, so that help is fast."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from prdsim.errors import ConfigError, did_you_mean
from prdsim.vocabulary import DATASETS
from prdsim.words import shown

from .choices import RUNS, backends, settings, some


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
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            ctx.fail(f"No such command '{shown(args[0])}'" + (f"; {hint}" if hint else "."))
        return super().resolve_command(ctx, args)


def settings_option(help_text: str = "set any key; may be repeated") -> Callable[..., Any]:
    """Return the option --set, for configuration keys as text."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help=help_text,
        shell_complete=settings,
    )


def takes_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument CONFIG, a TOML file, and the option --set."""
    argument = click.argument(
        "config",
        required=False,
        type=FILE_NAME,
        callback=_no_data_set,
        shell_complete=some(files=(".toml",)),
    )
    decorated: Callable[..., Any] = argument(settings_option()(command))
    return decorated


def _no_data_set(ctx: click.Context, _: click.Parameter, config: Path | None) -> Path | None:
    """Refuse a data set given as CONFIG, with the option that takes it."""
    if config is None or config.suffix:
        return config
    takes = any(parameter.name == "dataset" for parameter in ctx.command.params)
    option = "--dataset " if takes else "--set dataset="
    hint = did_you_mean(str(config).lower(), DATASETS, option)
    if hint and not config.is_file():  # but perhaps the folder of the data
        raise ConfigError(f"{shown(config)}: no such configuration file; {hint}")
    return config


def takes_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument RUN.h5, a trajectory file."""
    decorated: Callable[..., Any] = click.argument(
        "path",
        metavar="RUN.h5",
        type=FILE_NAME,
        shell_complete=some(files=RUNS),
    )(command)
    return decorated


def backends_option(verb: str) -> Callable[..., Any]:
    """Return the option --backend of commands that accept several."""
    return click.option(
        "--backend",
        "backends",
        multiple=True,
        metavar="NAME",
        help=f"{verb} this one; may be repeated  [all available]",
        shell_complete=backends,
    )


def takes_format(help_text: str) -> Callable[..., Any]:
    """Return a decorator that gives a command the form of its table: --format, or --json.

    The command takes it as ``form``, None if it is not given.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def in_one(*, form: str | None, as_json: bool, **others: Any) -> Any:
            if as_json and form not in (None, "json"):
                raise click.UsageError(f"--json and --format {form}: choose one")
            return command(form="json" if as_json else form, **others)

        choice = click.Choice(["table", "csv", "json"])
        form = click.option("--format", "form", type=choice, help=help_text)
        as_json = click.option("--json", "as_json", is_flag=True, help="the same as --format json")
        decorated: Callable[..., Any] = form(as_json(in_one))
        return decorated

    return decorate


def takes_table_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --format, --json, --output and --force for tables."""
    output = click.option(
        "-o", "--output", type=FILE_NAME, help="write to a .csv, .json, .txt file"
    )
    force = click.option("--force", is_flag=True, help="overwrite the output")
    given = takes_format("[table; with -o: by its suffix]")
    decorated: Callable[..., Any] = given(output(force(command)))
    return decorated
