"""Fit every shipped profile again from measurement tables: calibrate/README.md.

python -m roofline.calibration.rebuild TABLES END_TO_END DATE
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from roofline.calibration.fits.other_makers import lent_to_other_makers
from roofline.calibration.fits.pass_fits import read_passes
from roofline.calibration.fits.pass_pool import fit_pool
from roofline.calibration.fits.pass_profiles import build_whole_model_profiles
from roofline.calibration.fits.profile_files import write_profiles
from roofline.calibration.fits.profiles import (
    build_harness_profiles,
    build_profiles,
    build_version_profiles,
    fit_donors,
)
from roofline.calibration.fits.served_fits import lent_hosts, served_runtimes

__all__ = ["rebuild"]


def rebuild(tables: Path, end_to_end: Path, folder: Path, date: str) -> None:
    """Fit everything again and write ``folder/fits``.

    Parameters
    ----------
    tables, end_to_end : Path
        Folders of operator tables and of whole-model tables, described in calibrate/README.md.
    folder : Path
        The calibrate folder; its campaigns say which rows are used.
    date : str
        Written into every profile.
    """
    campaign = folder / "campaigns" / "end_to_end.toml"
    donors = fit_donors(tables)
    profiles = build_profiles(donors, date)
    versions = build_version_profiles(donors, fit_donors(tables, age="older"), profiles, date)
    profiles |= {name: runtime for name, runtime, _ in served_runtimes(end_to_end, campaign, profiles)}
    profiles |= lent_hosts(profiles)
    profiles |= lent_to_other_makers(profiles)
    whole = build_whole_model_profiles(fit_pool(read_passes(end_to_end, campaign)), date)
    shelves = _shelves(profiles) | {name for name in _shelves(whole) if name.split("_")[-2] == "any"}
    bases = {name: "vllm" if f"transferred/{name}/vllm" in profiles else "" for name in sorted(shelves)}
    versions |= build_harness_profiles(donors, bases, date)
    write_profiles(profiles | whole | versions, folder / "fits")


def _shelves(profiles: Iterable[str]) -> set[str]:
    return {name.split("/")[1] for name in profiles if name.startswith("transferred/")}


def _main(arguments: list[str]) -> None:
    rebuild(Path(arguments[0]), Path(arguments[1]), Path("calibrate"), arguments[2])


if __name__ == "__main__":
    _main(sys.argv[1:])
