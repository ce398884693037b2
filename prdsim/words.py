"""Text from outside, made fit for a message: it moves no cursor, and it ends."""

from __future__ import annotations

import os
import shlex

_MOST_SHOWN = 60  # characters of a value
_MOST_LINES, _LONGEST = 6, 1000  # of an error, whose texts may come from outside


def visible(text: str) -> str:
    """Return a text whose characters are all printable, or ends of lines; others are escaped.

    Control characters would command the terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)  # as in JSON, which may be shown too
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def shown(value: object, most: int = _MOST_SHOWN) -> str:
    """Return the text of a value from outside as one line of a message, shortened."""
    text = str(value)
    start = visible(text[:most]).replace("\n", "\\n")
    return start if len(text) <= most else f"{start}... ({len(text)} characters)"


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, or its type if it has no words."""
    words = error.args[0] if len(error.args) == 1 else getattr(error, "strerror", None) or error
    lines = str(words).strip().splitlines() if error.args else []
    return shown(lines[0], 200) if lines else type(error).__name__


def shown_value(value: object) -> str:
    """Return a value from outside as a program would write it, shortened."""
    try:
        return shown(repr(value))
    except (ValueError, RecursionError):  # of an integer of thousands of digits
        return "a value too long to be shown"


def shell_word(name: object) -> str:
    """Return the name of a file as it is typed in a shell, for a command to be copied."""
    text = str(name)
    if text.startswith("-"):
        text = f"./{text}"  # it would be an option
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_typed, text)) + "'"


def _typed(character: str) -> str:
    if character.isprintable() and character not in "\\'":
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def brief(text: str) -> str:
    """Return an error's text, which is short unless it repeats what is not: then its two ends."""
    if text.count("\n") >= _MOST_LINES:
        text = text.replace("\n", "\\n")
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"
