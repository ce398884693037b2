"""Who continued a run: one page of /sessions/record for each resume, with its environment.

A page holds a number (the first resume is 1), the length of a JSON text, the text, zeros, and in
the last four bytes the CRC-32 of the bytes before, all little-endian; one that was never written
is zero. The first resume keeps its page, the latest ones share the others.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

SESSIONS = "sessions/record"
PAGE_BYTES = 2048
PAGES = 16

_HEADER = struct.Struct("<II")
_CRC = struct.Struct("<I")
_TEXT_BYTES = PAGE_BYTES - _HEADER.size - _CRC.size

Session = Mapping[str, Any]
"""What is known of one resume: ``number``, ``at`` (UTC), ``step``, ``lock``, ``versions``."""


def page_of(number: int) -> int:
    """Return the page of the resume with a number."""
    return 0 if number == 1 else 1 + (number - 2) % (PAGES - 1)


def pack(number: int, session: Session) -> bytes:
    """Return a page; a text that is too long is left out, the number stays."""
    text = json.dumps(session).encode()
    text = text if len(text) <= _TEXT_BYTES else b"{}"
    body = _HEADER.pack(number, len(text)) + text.ljust(_TEXT_BYTES, b"\0")
    return body + _CRC.pack(zlib.crc32(body))


def unpack(pages: bytes) -> list[Session]:
    """Return the sessions of all whole pages, oldest first; torn pages are left out."""
    whole = [session for page in _split(pages) if (session := _unpack(page)) is not None]
    return sorted(whole, key=lambda session: int(session["number"]))


def torn(pages: bytes) -> list[int]:
    """Return the pages that were written to, but are not whole."""
    split = enumerate(_split(pages))
    return [k for k, page in split if page.strip(b"\0") and _unpack(page) is None]


def _split(pages: bytes) -> list[bytes]:
    return [pages[k : k + PAGE_BYTES] for k in range(0, len(pages), PAGE_BYTES)]


def _unpack(page: bytes) -> Session | None:
    body, tail = page[: -_CRC.size], page[-_CRC.size :]
    if len(page) != PAGE_BYTES or _CRC.unpack(tail) != (zlib.crc32(body),):
        return None
    number, length = _HEADER.unpack_from(body)
    try:
        session = json.loads(body[_HEADER.size : _HEADER.size + length])
    except ValueError:
        return None
    return {"number": number, **session} if number and isinstance(session, dict) else None
