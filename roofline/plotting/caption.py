"""The facts a figure's caption states, taken from reports."""

from collections.abc import Iterable, Sequence

import roofline
from roofline.report import Report
from roofline.studies.citation import cited_works

__all__ = ["caption_of", "source_lines"]


def caption_of(what: str, reports: Sequence[Report]) -> str:
    """Return a caption: what is shown, then models, devices, formats, software and basis.

    Parameters
    ----------
    what : str
        The figure's own sentences.
    reports : sequence of Report
        Of single points; what they have in common is said once.
    """
    deployments = [report.scenario.deployment for report in reports]
    names = _listed(deployment.model.name for deployment in deployments)
    devices = _listed(
        f"{count:g} x {deployment.system.device.name}"
        if (count := float(deployment.system.device_count)) > 1
        else deployment.system.name
        for deployment in deployments
    )
    formats = _listed(
        f"{deployment.precision.weights} weights and {deployment.precision.kv_cache} KV cache"
        for deployment in deployments
    )
    software = _listed(
        "datasheet figures" if deployment.runtime.software == "datasheet" else deployment.runtime.software
        for deployment in deployments
    )
    basis = _listed(report.basis for report in reports)
    return (
        f"{what} {names} on {devices}; {formats}; {software}. Times rest mostly on: {basis}. "
        f"Made with roofline {roofline.__version__}."
    )


def source_lines(reports: Sequence[Report]) -> list[str]:
    """Return one line for each work the reports' numbers come from, for a figure's metadata."""
    return [work.line for work in cited_works(reports)]


def _listed(parts: Iterable[str]) -> str:
    unique = list(dict.fromkeys(parts))
    return " and ".join([", ".join(unique[:-1]), unique[-1]]) if len(unique) > 1 else unique[0]
