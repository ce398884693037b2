"""``prdsim completion``, and the answers to a shell that completes a command line."""

from __future__ import annotations

import os
import shlex

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    shell_complete,
)

from prdsim.errors import ConfigError

from .terminal import say

VARIABLE = "_PRDSIM_COMPLETE"
"""The environment variable by which a shell asks for completions."""

_LINES = {
    "bash": ("~/.bashrc", f'eval "$({VARIABLE}=bash_source prdsim)"'),
    "zsh": ("~/.zshrc, after compinit", f'eval "$({VARIABLE}=zsh_source prdsim)"'),
    "fish": ("~/.config/fish/completions/prdsim.fish", f"{VARIABLE}=fish_source prdsim | source"),
}
_OPEN = "*[=:/]"  # a pattern of the shells: words that go on, after which they put no space


@click.command(name="completion")
@click.argument("shell", type=click.Choice(list(_LINES)))
def command(shell: str) -> int:
    """Print the line that makes a shell complete commands, options, values and files.

    It goes into the file that is named in the comment.
    """
    place, line = _LINES[shell]
    say(f"# in {place}:\n{line}")
    return 0


def answer(program: click.Command, instruction: str) -> int:
    """Print what a shell asks for: the script to be installed, or completions.

    Raises `ConfigError` if it is no shell that asks.
    """
    asked = instruction.endswith("_source") or {"COMP_WORDS", "COMP_CWORD"} <= os.environ.keys()
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)
    if not asked or shell_complete(program, {}, "prdsim", VARIABLE, instruction):
        raise ConfigError(
            f"{VARIABLE} is set by the completion of a shell: unset it; "
            f"prdsim completion {'|'.join(_LINES)} prints the line that installs it"
        )
    return 0


class _Whole(ShellComplete):
    """A shell that replaces all of ``--option=value``, of which click returns the value alone."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return the choices for the last word, as words that may replace it."""
        items = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not (equals and option.startswith("--")):
            return items
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in items]


class _Bash(_Whole, BashComplete):
    """Bash, which splits words at = and :, and replaces only what follows the last of them."""

    source_template = BashComplete.source_template.replace(
        "    return 0\n", f"    [[ $value == {_OPEN} ]] && compopt -o nospace\n\n    return 0\n"
    )
    _kept = ""  # of the last word, before the part that is replaced

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the last one, and the last one, put together again."""
        args, last = super().get_completion_args()
        words: list[str] = []
        joins = False
        for word in [*args, last]:
            splits = word != "" and not word.strip("=:")
            if words and (splits or joins):
                words[-1] += word
            else:
                words.append(word)
            joins = splits
        self._kept = words[-1] if joins else words[-1].removesuffix(last)
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Leave out what bash keeps, and quote the rest as bash reads it."""
        rest = item.value.removeprefix(self._kept)
        home = "~/" if rest.startswith("~/") else ""
        quoted = shlex.quote(rest.removeprefix(home)) if rest != home else ""
        return super().format_completion(CompletionItem(home + quoted, item.type))


class _Zsh(_Whole, ZshComplete):
    """Zsh; it puts no space after words that go on."""

    source_template = ZshComplete.source_template.replace(
        "        compadd -U",
        f"        local -a space\n        [[ $completions[-1] == {_OPEN} ]] && space=(-S '')\n"
        '        compadd "${space[@]}" -U',
    )


class _Fish(_Whole, FishComplete):
    """Fish; it puts no space after words that go on."""
