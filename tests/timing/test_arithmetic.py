"""Which format an engine multiplies in, when hardware or software chooses."""

from roofline.catalog.hardware import load_device
from roofline.timing.cost import arithmetic

GEFORCE = next(iter(load_device("nvidia_rtx_4090").value.engine.values()))
M3 = next(iter(load_device("apple_m3_pro").value.engine.values()))
NARROW = {"bf16": "fp16.fp16"}


def test_hardware_prefers_wide_sums():
    assert arithmetic(GEFORCE, "bf16") == ("bf16", GEFORCE.peak_flops_per_s["bf16"]["fp32"])


def test_software_that_asks_for_narrow_sums_gets_the_faster_peak():
    assert arithmetic(GEFORCE, "bf16", NARROW) == ("fp16", GEFORCE.peak_flops_per_s["fp16"]["fp16"])


def test_an_engine_without_the_format_runs_what_it_has():
    assert arithmetic(M3, "bf16", {"bf16": "fp8.fp16"}) == arithmetic(M3, "bf16")


def test_an_engine_named_first_leads_and_an_unknown_one_changes_nothing():
    device = load_device("qualcomm_snapdragon_x_elite").value

    assert next(iter(device.led_by("npu").engine)) == "npu"
    assert device.led_by("npu").engine.keys() == device.engine.keys()
    assert device.led_by("tpu") is device
