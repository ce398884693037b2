"""Text from outside in messages: escaped, on one line, and short."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from prdsim.words import brief, first_line, shell_word, shown, shown_value, visible

CONTROL = "\x00\x07\r\x1b[31m\x7f\x85\x9b31m\u202e\u2028\u2029\udce9"


def test_every_character_that_does_not_print_is_escaped():
    assert visible("\x1b]0;a\x07\x9b\u2028") == r"\u001b]0;a\u0007\u009b\u2028"
    assert visible("\udce9\U000e0001") == r"\udce9\U000e0001"
    assert visible(CONTROL).isprintable()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n one\n"), "one"),
        (ValueError("  "), "ValueError"),
        (KeyError("name"), "name"),
        (MemoryError(), "MemoryError"),
        (OSError("libfoo.so: cannot open"), "libfoo.so: cannot open"),
        (FileNotFoundError(2, "No such file", "a"), "No such file"),
        (UnicodeDecodeError("utf-8", b"a", 0, 1, "bad"), "'utf-8' codec can't decode byte 0x61"),
        (ValueError("a\x1b"), r"a\u001b"),
    ],
)
def test_the_first_line_of_an_error_is_its_own_words(error, words):
    assert first_line(error).startswith(words)


@pytest.mark.parametrize("text", ["", "plain", "größer: ≤ 10 µs, 中文", "two\nlines", "𝒳"])
def test_what_prints_and_ends_of_lines_stay(text):
    assert visible(text) == text


def test_json_stays_json():
    text = json.dumps({"a": CONTROL}, indent=1, ensure_ascii=False)
    assert "\x7f" in text
    assert json.loads(visible(text)) == {"a": CONTROL}


def test_values_are_one_line_and_cut():
    assert shown("a\nb\x07") == r"a\nb\u0007"
    assert shown("a" * 60) == "a" * 60
    assert shown("a" * 61) == "a" * 60 + "... (61 characters)"
    assert shown("a" * 300, 200) == "a" * 200 + "... (300 characters)"
    assert shown_value("a'b") == '"a\'b"'
    assert shown_value("a" * 100) == "'" + "a" * 59 + "... (102 characters)"
    assert shown_value(10**5000) == "a value too long to be shown"


def test_errors_keep_their_two_ends():
    assert brief("what\nwhat to do") == "what\nwhat to do"
    cut = brief("what " + "a" * 10**6 + " what to do")
    assert len(cut) == 1005
    assert cut.startswith("what aaa")
    assert cut.endswith("aaa what to do")
    assert "\n" not in brief("\n" * 2000)


@pytest.mark.parametrize(
    "name",
    ["run.h5", "-x.h5", "--force", "two words", "it's", "a\nb", "\x1b[31m\\'ü", "\udcff\udcfe.h5"],
)
def test_a_name_as_a_shell_reads_it(name):
    word = shell_word(name)
    assert word.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout.removeprefix(b"./") == os.fsencode(name)
    assert not done.stdout.startswith(b"-")
