"""What the documentation shows of the command line is what the program says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from napari_em_seg.widgets.keys import as_markdown

PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"
USAGES = re.findall(r"```text\n(Usage: napari-em-seg .*?)```", PAGE.read_text("utf-8"), re.S)


def command_of(usage: str) -> list[str]:
    match = re.match(r"Usage: napari-em-seg ((?:[a-z]+ )*)", usage)
    return match[1].split() if match else []


def said(command: list[str]) -> str:
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    program = [sys.executable, "-m", "napari_em_seg", *command, "--help"]
    result = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    return result.stdout.replace("python -m napari_em_seg", "napari-em-seg")


@pytest.mark.parametrize("usage", USAGES, ids=[" ".join(command_of(usage)) or "all" for usage in USAGES])
def test_help_is_as_printed(usage: str) -> None:
    assert usage.split() == said(command_of(usage)).split()


def test_the_keys_are_those_of_the_key_map() -> None:
    page = (PAGE.parent / "review.md").read_text("utf-8")
    assert page.partition("<!-- keys -->\n")[2].partition("<!-- /keys -->")[0] == as_markdown()


def commands_below(command: list[str]) -> list[list[str]]:
    listed = re.findall(r"^  ([a-z]+)  ", said(command).partition("Commands:")[2], re.M)
    found = [[*command, name] for name in listed]
    return found + [below for name in found for below in commands_below(name)]


def test_every_command_has_its_help_in_the_docs() -> None:
    assert sorted(commands_below([])) == sorted(filter(None, map(command_of, USAGES)))
