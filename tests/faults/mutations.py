"""Seeded mutations of bytes and of text, of every format."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from random import Random

Mutator = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""(random numbers, content, contents of the same format to splice with) -> mutated content"""

EXTREMES = (0, 1, -1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1)


def _span(rng: Random, content: bytes, longest: int = 256) -> slice:
    """Return a random piece of a content that is not empty."""
    start = rng.randrange(len(content))
    return slice(start, start + rng.choice((1, 2, 4, 8, rng.randint(1, longest))))


def flip_bits(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace_block(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    piece = _span(rng, content)
    length = len(content[piece])
    filling = rng.choice((b"\0", b"\xff", b"A", b"(", b"[", b"\x1b", b""))
    new = filling * length if filling else rng.randbytes(length)
    return content[: piece.start] + new + content[piece.start + length :]


def remove_block(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    piece = _span(rng, content)
    return content[: piece.start] + content[piece.stop :]


def insert_block(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    at, new = rng.randint(0, len(content)), rng.randbytes(rng.choice((1, 4, 64)))
    return content[:at] + new + content[at:]


def duplicate_block(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    piece, at = content[_span(rng, content, 1024)], rng.randint(0, len(content))
    return content[:at] + piece * rng.choice((1, 2, 50)) + content[at:]


def truncate(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    return content[: rng.choice((0, 1, 8, rng.randrange(len(content)), len(content) - 1))]


def extreme_integer(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(EXTREMES) % 2 ** (8 * size)
    at = rng.randrange(max(len(content) - size, 1))
    at -= at % rng.choice((1, size))
    new = value.to_bytes(size, rng.choice(("little", "big")))
    return content[:at] + new + content[at + size :]


def extreme_float(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    at = rng.randrange(max(len(content) - 8, 1)) // 8 * 8
    value = rng.choice((float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324, -1.0))
    return content[:at] + struct.pack("<d", value) + content[at + 8 :]


def splice(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else content
    at = rng.randrange(len(content))
    here = rng.choice((at, rng.randrange(max(len(other), 1))))
    return content[:at] + other[here:]


ON_BYTES: tuple[Mutator, ...] = (
    flip_bits,
    replace_block,
    remove_block,
    insert_block,
    duplicate_block,
    truncate,
    extreme_integer,
    extreme_float,
    splice,
)


def mutated(
    rng: Random, content: bytes, others: Sequence[bytes], mutators: Sequence[Mutator]
) -> bytes:
    """Apply one mutator, or a few."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if content:
            content = rng.choice(mutators)(rng, content, others)
    return content


# --- Text: TOML, JSON, CSV, settings, schedules ---

_TOKEN = re.compile(r'"[^"\n]*"|[\w.+-]+|[^\w\s]|\n| +')

ODD_NUMBERS = (
    "0", "-0", "-1", "1", "2", "1.5", "-1e300", "1e400", "1e-400", "nan", "NaN", "-inf", "inf",
    "Infinity", "9" * 400, "9" * 5000, "0x7fffffffffffffff", "2147483647", "2147483648",
    "4294967296", "9223372036854775807", "9223372036854775808", "1_0", "1__0", "007", "+5", "1e15",
    "1000000000000000", "1.7976931348623157e308", "0.1e", "５", "²", "1979-05-27", "07:32:00",
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "null", "true", "false", "\x1b[31mred\x1b[0m", "\x07", "\r", "\x85", "\u202e",
    "\ufeff", "\0", "é", "\udc80", "𝒳", "a" * 5000, "../../etc/passwd", "/dev/zero", "%s%n", "{0}",
    "U,U", "U,", "$(id)", "auto", "none", "None", "[]", "{}", "\x9b31m", "\u2028", "/", ".", "..",
    "~", "~nobody",
)  # fmt: skip
ODD_PIECES = (*"[{(]}\"'=:,#\\", '"""', "'''", "\\u0000", "\\x1b")


def odd_text(rng: Random) -> str:
    """Return a piece of text that some reader does not expect."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice(ODD_NUMBERS)
    if kind == 1:
        return rng.choice(ODD_TEXTS)
    if kind == 2:
        return rng.choice(ODD_PIECES)
    if kind == 3:
        depth = rng.choice((3, 100, 3000, 100_000))
        return rng.choice(("[", "{", "(", '{"a":', "[1,", "-", "a.", "times:", "\\")) * depth
    text = rng.choice(ODD_TEXTS)
    return f'"{text}"'


def replace_token(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    return _on_token(rng, content, lambda token: odd_text(rng))  # noqa: ARG005


def wrap_token(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    depth = rng.choice((1, 2, 50, 2000, 50_000))
    left, right = rng.choice(
        (("[", "]"), ("{", "}"), ('{"a":', "}"), ("(", ")"), ("{a=", "}"), ('"', '"'))
    )
    return _on_token(rng, content, lambda token: left * depth + token + right * depth)


def repeat_token(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    times = rng.choice((0, 2, 3, 1000))
    return _on_token(rng, content, lambda token: token * times)


def swap_tokens(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    tokens = _tokens(content)
    if len(tokens) > 1:
        i, j = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        tokens[i], tokens[j] = tokens[j], tokens[i]
    return _joined(tokens)


def foreign_token(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    donor = _tokens(rng.choice(others)) if others else []
    return _on_token(rng, content, lambda token: rng.choice(donor) if donor else token * 2)


def repeat_line(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    lines = content.split(b"\n")
    line = rng.randrange(len(lines))
    lines[line:line] = [lines[line]] * rng.choice((1, 2, 1000))
    return b"\n".join(lines)


def remove_line(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    lines = content.split(b"\n")
    del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def other_line_ends(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\0\n", b"\x0b", b"")))


def other_encoding(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    text = content.decode(errors="replace")
    return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "cp037")), errors="replace")


def _tokens(content: bytes) -> list[str]:
    return _TOKEN.findall(content.decode(errors="surrogateescape"))


def _joined(tokens: list[str]) -> bytes:
    return "".join(tokens).encode(errors="surrogateescape")


def _on_token(rng: Random, content: bytes, change: Callable[[str], str]) -> bytes:
    tokens = _tokens(content)
    words = [i for i, token in enumerate(tokens) if not token.isspace()]
    if words:
        i = rng.choice(words)
        tokens[i] = change(tokens[i])
    return _joined(tokens)


ON_TEXT: tuple[Mutator, ...] = (
    *(replace_token,) * 4,
    *(foreign_token,) * 2,
    wrap_token,
    repeat_token,
    swap_tokens,
    repeat_line,
    remove_line,
    other_line_ends,
    other_encoding,
    flip_bits,
    insert_block,
    truncate,
    splice,
)
