"""The program as a process: start, statuses, pipes and help."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import build_cli_docs
import pytest
import typer

import roofline as package
from roofline.cli.main import COMMANDS, EXAMPLES, build, status_of

Run = Callable[[str], Any]
ROOT = Path(__file__).parents[2]
ANALYZE = ["analyze", "llama-3.1-8b", "h100-sxm"]


def process(*arguments: str, code: str | None = None, **settings: Any) -> "subprocess.CompletedProcess[str]":
    """Run the program, or some code, in a fresh interpreter."""
    start = ["-m", "roofline"] if code is None else ["-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *start, *arguments],
        capture_output=True, text=True, env=environment, check=False, **settings,
    )  # fmt: skip


def test_the_program_runs_as_a_module() -> None:
    found = process("--version")

    assert (found.returncode, found.stdout, found.stderr) == (0, f"roofline {package.__version__}\n", "")


def test_help_loads_nothing_heavy_and_an_analysis_nothing_it_does_not_need() -> None:
    code = (
        "import sys; from roofline.cli.main import application\n"
        "try: application()(sys.argv[1:], standalone_mode=False)\n"
        "except SystemExit: pass\n"
        "print('\\n' + ' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    help_modules = set(process("--help", code=code).stdout.splitlines()[-1].split())
    modules = set(process(*ANALYZE, code=code).stdout.splitlines()[-1].split())

    assert not help_modules & {"numpy", "pydantic", "rich"}
    assert {"numpy", "pydantic"} <= modules
    assert not modules & {"rich", "pandas", "matplotlib", "scipy", "torch", "transformers", "tomli_w"}


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        ("sweep llama-3.1-8b h100-sxm --vary batch=1,2", "pandas", "sweep"),
        ("validate {rows}", "pandas", "validate"),
        ("validate --self-check", "torch", "calibrate"),
        ("plot memory llama-3.1-8b h100-sxm -o {folder}/memory.pdf", "matplotlib", "plot"),
    ],
)
def test_what_needs_a_package_that_is_missing_names_the_extra_that_has_it(
    line: str, package: str, extra: str, roofline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("model,device,metric,value\nllama-3.1-8b,h100-sxm,tpot_ms,8\n")
    monkeypatch.setitem(sys.modules, package, None)

    found = roofline(line.format(rows=rows, folder=tmp_path))

    assert (found.status, found.out) == (2, "")
    assert found.err.rstrip().endswith(f"wants {package}: pip install 'roofline-tool[{extra}]'")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    program = f"{sys.executable} -m roofline analyze llama-3.1-8b h100-sxm --format json"
    found = subprocess.run(
        ["bash", "-c", f"{program} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, cwd=ROOT, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert found.returncode == 128 + signal.SIGPIPE
    assert found.stderr == ""


def test_an_interrupt_ends_with_130() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert status_of(interrupted) == 128 + signal.SIGINT


def test_our_own_failure_is_one_line_and_status_1(
    roofline: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise KeyError("weights")

    monkeypatch.delenv("ROOFLINE_DEBUG", raising=False)
    assert status_of(broken) == 1
    assert (
        capsys.readouterr().err
        == "roofline: internal error: KeyError: 'weights' (ROOFLINE_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("ROOFLINE_DEBUG", "1")
    with pytest.raises(KeyError):
        status_of(broken)


@pytest.mark.parametrize("line", EXAMPLES.strip().splitlines())
def test_every_example_of_the_program_works(line: str, roofline: Run) -> None:
    found = roofline(line)

    assert (found.status, found.err) == (0, "")
    assert found.out


def test_an_unknown_command_names_the_nearest(roofline: Run) -> None:
    found = roofline("analyse")

    assert found.status == 2
    assert found.err == "roofline: no command is called 'analyse' (nearest: 'analyze')\n"


def test_no_arguments_show_the_help(roofline: Run) -> None:
    found = roofline("")

    assert found.status == 2
    assert "Commands:" in found.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_examples_of_itself(name: str) -> None:
    command = build(name)

    assert command.help
    assert f"roofline {name}" in command.epilog


@pytest.mark.skipif(
    not typer.__version__.startswith(build_cli_docs.TYPER), reason="help is laid out by the typer version"
)
def test_the_command_page_is_current() -> None:
    assert build_cli_docs.TARGET.read_text(encoding="utf-8") == build_cli_docs.document()
