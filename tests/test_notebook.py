import numpy as np

from roofline import make_scenario
from roofline.analysis import analyze


def test_a_point_names_its_bound_and_escapes_names() -> None:
    report = analyze(make_scenario("llama-3.1-8b", "h100-sxm", software="datasheet"))
    text = report._repr_html_()

    assert "memory-bound" in text
    assert "<caption>Llama 3.1 8B on NVIDIA H100 SXM5 80 GB, datasheet</caption>" in text


def test_a_grid_shows_ranges() -> None:
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", software="datasheet")
    report = analyze(scenario.replace_at("workload.batch_size", np.array([1.0, 5000.0])), axes=1)
    text = report._repr_html_()

    assert " to " in text
    assert "50% of the points" in text
