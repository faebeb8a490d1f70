"""Rooms import only from the rooms above them, and there is no cycle inside a room."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "roofline"

#: Room -> rooms it may import from; modules directly in the package are rooms of their own.
BASE = {"errors", "units", "quantity", "dotted_path", "provenance", "kinds"}
GRAPH = BASE | {"graph"}
TIMING = GRAPH | {"hardware", "timing"}
DECODING = TIMING | {"decoding"}
ANSWER = DECODING | {"scenario", "report", "analysis"}
CATALOG = ANSWER | {"catalog"}
KEYS = CATALOG | {"offload_settings", "workload_settings", "overrides"}
API = KEYS | {"speculation", "offloading", "settings", "api", "device_ring"}
TECHNIQUES = API | {"techniques"}
CALIBRATION = TECHNIQUES | {"closed_loop", "serving", "scenario_file", "report_document", "calibration"}
STUDIES = TECHNIQUES | {"scenario_file", "report_document", "studies"}
PLOTTING = CALIBRATION | STUDIES | {"plotting"}
ALLOWED = {
    "errors": set[str](),
    "kinds": set[str](),
    "provenance": {"errors"},
    "quantity": set[str](),
    "units": {"errors", "quantity"},
    "dotted_path": {"errors", "units"},
    "graph": GRAPH,
    "hardware": BASE | {"hardware"},
    "timing": TIMING,
    "decoding": DECODING,
    "scenario": DECODING | {"scenario"},
    "report": DECODING | {"scenario", "report", "notebook"},
    "analysis": ANSWER,
    "closed_loop": BASE | {"closed_loop"},
    "serving": ANSWER | {"closed_loop", "serving"},
    "catalog": CATALOG,
    "offload_settings": BASE,
    "workload_settings": DECODING | {"workload_settings"},
    "overrides": ANSWER,
    "offloading": CATALOG | {"offload_settings", "offloading"},
    "device_ring": CATALOG | {"offload_settings", "offloading", "device_ring"},
    "speculation": CATALOG | {"speculation"},
    "settings": KEYS | {"settings", "techniques", "speculation", "offloading"},
    "api": CATALOG | {"settings"},
    "techniques": CATALOG | {"techniques"},
    "scenario_file": TECHNIQUES | {"scenario_file"},
    "scenario_text": TECHNIQUES | {"scenario_file"},
    "report_document": TECHNIQUES | {"scenario_file", "report_document"},
    "calibration": CALIBRATION,
    "studies": STUDIES,
    "notebook": BASE | {"notebook"},
    "plotting": PLOTTING,
    "cli": PLOTTING | {"cli"},
}


#: Folder of the calibration room -> folders of it that it may import from.
CALIBRATION_FOLDERS = {
    "measurements": set[str](),
    "predictions": {"measurements"},
    "microbenchmarks": {"measurements"},
    "fits": {"measurements", "predictions"},
    "accuracy": {"measurements", "fits"},
}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return modules of this package that a file imports while it is imported, types apart."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("roofline"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("roofline")}
    return found


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or "__" not in path.name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_rooms_above(path: Path) -> None:
    rooms = {name.split(".")[1] for name in imports(path) if name.count(".") >= 1}

    assert rooms <= ALLOWED[room_of(path)] | {room_of(path)}


@pytest.mark.parametrize("folder", CALIBRATION_FOLDERS)
def test_folders_of_the_calibration_room_import_one_way(folder: str) -> None:
    files = (ROOT / "calibration" / folder).rglob("*.py")
    used = {name.split(".")[2] for path in files for name in imports(path) if "roofline.calibration." in name}

    assert used
    assert used <= CALIBRATION_FOLDERS[folder] | {folder}


def test_no_cycle_between_modules() -> None:
    names = {
        ".".join(("roofline", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in FILES
    }
    edges = {name: {used for used in imports(path) if used in names} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for used in edges[name] - {name}:
                visit(used, (*trail, name))
            done.add(name)

    for name in names:
        visit(name, ())


@pytest.mark.parametrize("path", sorted((ROOT / "graph").rglob("*.py")), ids=lambda path: path.name)
def test_the_graph_knows_no_phase(path: Path) -> None:
    names = {
        getattr(node, "id", getattr(node, "arg", getattr(node, "attr", None)))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    }

    assert "phase" not in names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_element_widths_are_read_in_the_graph_only(path: Path) -> None:
    attributes = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }

    assert room_of(path) == "graph" or not attributes & {"element_bits", "scale_bits"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_slow_packages_are_imported_inside_functions(path: Path) -> None:
    slow = {"pandas", "matplotlib", "torch", "scipy", "xarray", "pyarrow", "transformers"}
    modules = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])

    assert not modules & slow


def test_data_folders_are_not_packages() -> None:
    for folder in ("hardware", "models", "calibrate", "plots"):
        assert not list((ROOT.parent / folder).rglob("__init__.py"))
