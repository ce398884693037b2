"""Command-line options generated from the configuration table, one per key."""

from __future__ import annotations

import re
from typing import Any

import click

from prdsim.config import RunConfig, group_of
from prdsim.config.messages import literals

from .choices import of_key

_SHORT = {"output": ["-o"], "samples": ["-n"], "width": ["-m"]}  # n and m as in the paper


class ConfigCommand(click.Command):
    """A command that takes every configuration key as an option, shown by group."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params.extend(_option(key) for key in RunConfig.model_fields)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; what other programs call --gpu or --cuda is a backend here."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in ("--gpu", "--cuda"):
                raise
            hint = f"No such option '{error.option_name}'; did you mean --backend cupy?"
            raise click.NoSuchOption(error.option_name, hint, ctx=ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under the headings of their groups."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                known = parameter.name in RunConfig.model_fields
                heading = group_of(str(parameter.name)).capitalize() if known else "Options"
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def given_options(values: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration keys given on the command line, with their values."""
    return {key: value for key, value in values.items() if value is not None}


def _option(key: str) -> click.Option:
    field = RunConfig.model_fields[key]
    name = key.replace("_", "-")
    default = field.default
    text = str(default).lower() if isinstance(default, bool) else default
    shown = "" if default is None else f"  [{text}]"
    help_text = f"{field.description}{shown}"
    if field.annotation is bool:
        return click.Option([f"--{name}/--no-{name}"], default=None, help=help_text)
    return click.Option(
        [*_SHORT.get(key, []), f"--{name}"],
        metavar=_metavar(field.annotation),
        default=None,
        help=help_text,
        shell_complete=of_key(key),
    )


def _metavar(annotation: Any) -> str:
    words = set(re.findall(r"\w+", str(annotation)))
    numbers = ["NUMBER"] if "float" in words else ["INTEGER"] if "int" in words else []
    return "|".join([*numbers, *literals(annotation)]) or "TEXT"
