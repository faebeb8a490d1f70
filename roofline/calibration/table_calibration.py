"""Somebody's own table of measurements, made into profiles of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from roofline.calibration.fits.own_fits import OwnFit, Refused, fit_operators, set_aside, write_fits
from roofline.calibration.fits.own_speeds import fit_whole_models
from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.microbenchmarks.link_speed import LinkFit
from roofline.calibration.microbenchmarks.memory_speed import MemorySpeed
from roofline.errors import FileFormatError, InvalidSpecError

__all__ = ["Calibrated", "calibrate_table"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """What a calibration made.

    Parameters
    ----------
    written : tuple of Path
        Files it wrote or added to.
    doubts : tuple of str
        What speaks against the measurements.
    memory : tuple of MemorySpeed
        Rates of copies and reads by size; empty where only a table was fitted.
    host_link : tuple of LinkFit
        Copies between host and device; empty where there is no CUDA device.
    launch_s : mapping of str to float
        The host's time for one small kernel [s], ``eager`` and in a ``graph``; empty where nothing was run.
    left_out : tuple of str
        What this machine has nothing of to measure, and why.
    """

    fits: tuple[OwnFit, ...]
    refused: tuple[Refused, ...]
    written: tuple[Path, ...]
    doubts: tuple[str, ...] = ()
    memory: tuple[MemorySpeed, ...] = ()
    host_link: tuple[LinkFit, ...] = ()
    launch_s: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def calibrate_table(path: Path, folder: Path, said: dict[str, str] | None = None) -> Calibrated:
    """Fit somebody's own rows and write profiles below ``folder/fits``.

    Parameters
    ----------
    path : Path
        An operator table, or a whole-model table or output as validation takes them.
    said : mapping of str to str, optional
        Cells by column for rows where they are empty.

    Raises
    ------
    FileFormatError
        If it cannot be read.
    InvalidSpecError
        If nothing in it can be fitted; the text says why.
    """
    file = replace(read_measured_file(path), said=dict(said or {}))
    today = date.today().isoformat()
    if file.schema == "sources":
        raise FileFormatError(f"{path}: is a table of sources, not of measurements")
    with set_aside(folder):
        fit = fit_whole_models if file.schema == "whole_models" else fit_operators
        fits, refused, profiles = fit(file, today)
        if not fits:
            reasons = "; ".join(f"{one.what}: {one.reason}" for one in refused[:3]) or "no usable row"
            raise InvalidSpecError(f"{path}: nothing to fit ({reasons})")
        written = write_fits(profiles, folder)
    return Calibrated(fits=tuple(fits), refused=tuple(refused), written=tuple(written.values()))
