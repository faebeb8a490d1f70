"""Profiles as files."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

from roofline.timing.runtime import Runtime

__all__ = ["profile_text", "write_profiles"]

#: How a profile starts that no table was fitted for: somebody derived it from what its sources print.
_BY_HAND: Final = "# Written by hand"


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(part)}" for key, part in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _lines(value: Any, skipped: Iterable[str] = ()) -> list[str]:
    lines = []
    for entry in fields(value):
        part = getattr(value, entry.name)
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        if entry.name not in skipped and part != default:
            lines.append(f"{entry.name} = {_inline(part)}")
    return lines


def profile_text(runtime: Runtime) -> str:
    """Return a runtime as the text of its file; defaults are left out."""
    parts = ["\n".join(_lines(runtime, ("kernels", "host", "policy")))]
    if host := _lines(runtime.host):
        parts.append("[host]\n" + "\n".join(host))
    if policy := _lines(runtime.policy):
        parts.append("[policy]\n" + "\n".join(policy))
    parts += ["[[kernels]]\n" + "\n".join(_lines(kernel)) for kernel in runtime.kernels]
    return "\n\n".join(parts) + "\n"


def write_profiles(profiles: Mapping[str, Runtime], folder: Path) -> None:
    """Write each profile to ``folder/<path>.toml`` and remove every other that was not written by hand."""
    for path in folder.glob("**/*.toml"):
        named = path.relative_to(folder).with_suffix("").as_posix() in profiles
        if not named and not path.read_text(encoding="utf-8").startswith(_BY_HAND):
            path.unlink()
    for name, runtime in profiles.items():
        path = folder / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(profile_text(runtime), encoding="utf-8")
