from dataclasses import dataclass

import pytest

from roofline.dotted_path import replace_at, resolve
from roofline.errors import InvalidSpecError


@dataclass(frozen=True)
class Inner:
    bandwidth_bytes_per_s: float


@dataclass(frozen=True)
class Outer:
    memory: dict[str, Inner]
    parts: tuple[Inner, ...] = ()


OUTER = Outer(memory={"hbm": Inner(1.0)}, parts=(Inner(2.0), Inner(3.0)))


def test_replace_at_changes_one_part_and_leaves_the_original() -> None:
    changed = replace_at(OUTER, "memory.hbm.bandwidth", 4.0)

    assert changed.memory["hbm"].bandwidth_bytes_per_s == 4.0
    assert OUTER.memory["hbm"].bandwidth_bytes_per_s == 1.0
    assert replace_at(OUTER, "parts.1.bandwidth", lambda old: old * 2).parts[1].bandwidth_bytes_per_s == 6.0


def test_resolve_returns_full_field_names() -> None:
    assert resolve(OUTER, "memory.hbm.bandwidth") == (("memory", "hbm", "bandwidth_bytes_per_s"), 1.0)


@pytest.mark.parametrize("path", ["memory.hbn.bandwidth", "memroy", "parts.2", "memory.hbm.bandwidth.more"])
def test_a_path_that_does_not_exist_is_refused(path: str) -> None:
    with pytest.raises(InvalidSpecError, match=f"^{path}: no "):
        replace_at(OUTER, path, 1.0)
