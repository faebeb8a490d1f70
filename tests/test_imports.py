"""What a plain answer imports: a cold start is most of the time of one."""

import json
import subprocess
import sys

import pytest

LOADED = """
import json, sys
from roofline.cli.main import status_of, application
status = status_of(lambda: application()(sys.argv[1:], standalone_mode=False))
print(json.dumps([status, sorted(sys.modules)]))
"""
PLAIN = ("analyze", "llama-3.1-8b", "h100-sxm", "--batch", "8")

#: What belongs to other commands, models or ways of decoding.
UNUSED = (
    *("torch", "pandas", "matplotlib", "scipy", "pyarrow", "rich", "tomli_w", "typer._adapters"),
    *("roofline.scenario_file", "roofline.speculation", "roofline.offloading", "roofline.timing.offloading"),
    *("roofline.techniques", "roofline.studies", "roofline.plotting", "roofline.notebook"),
    *("roofline.decoding.speculative", "roofline.decoding.drafters", "roofline.decoding.macro_step"),
    *("roofline.decoding.selecting", "roofline.decoding.superposed", "roofline.catalog.huggingface"),
    *("roofline.graph.blocks.latent_attention", "roofline.graph.blocks.linear_attention"),
    *("roofline.graph.blocks.mixture_of_experts", "roofline.graph.blocks.state_space"),
)


def loaded(*arguments: str) -> set[str]:
    """Return the modules that one run of the command line has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], check=True, capture_output=True, text=True
    )
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return set(modules)


@pytest.fixture(scope="module")
def plain() -> set[str]:
    return loaded(*PLAIN)


@pytest.mark.parametrize("name", UNUSED)
def test_a_plain_answer_does_not_import(name: str, plain: set[str]) -> None:
    assert name not in plain


def test_a_key_imports_what_it_needs() -> None:
    modules = loaded(*PLAIN, "--speculate", "chain:2", "--accept", "0.8")

    assert {"roofline.speculation", "roofline.decoding.speculative"} <= modules
