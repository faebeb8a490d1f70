"""The README's commands run and print what it shows.

``python tests/test_readme.py`` rewrites the shown output after a change that was meant.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from roofline.catalog.files import names_in

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def shown() -> list[tuple[str, str]]:
    """Return each ``$ roofline ...`` command of the README with the output below it."""
    found = []
    for block in BLOCK.findall(README.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            if command.startswith("roofline "):
                found.append((command, output.rstrip("\n")))
    return found


def run(command: str) -> str:
    """Return what a command prints."""
    words = [sys.executable, "-m", "roofline", *shlex.split(command)[1:]]
    environment = {**os.environ, "PYTHONPATH": str(README.parent), "COLUMNS": "110"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            words, capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize(("command", "output"), shown(), ids=lambda value: value[:60])
def test_a_command_prints_what_the_readme_shows(command: str, output: str) -> None:
    assert run(command) == output


def test_the_readme_shows_commands() -> None:
    assert len(shown()) >= 3


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("README.md", "{devices} devices, {models} models"),
        ("docs/models.md", "| {models} models of the catalogue"),
    ],
)
def test_pages_state_how_much_the_catalogue_holds(page: str, words: str) -> None:
    counts = {section: len(names_in(section)) for section in ("devices", "models")}

    assert words.format(**counts) in (README.parent / page).read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs() -> None:
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(README.parent), "MPLBACKEND": "agg"}
        for block in blocks:
            done = subprocess.run(
                [sys.executable, "-c", block],
                capture_output=True,
                text=True,
                cwd=folder,
                env=environment,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    assert blocks


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for command, output in shown():
        old = f"$ {command}\n" + (f"{output}\n" if output else "")
        text = text.replace(old, f"$ {command}\n{run(command)}\n")
    README.write_text(text, encoding="utf-8")
