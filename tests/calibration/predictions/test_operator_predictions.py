import pytest

from roofline.calibration.predictions.operator_predictions import runtime_near


@pytest.mark.parametrize(
    ("software", "profile"),
    [
        ("vllm 0.19.0", "vllm 0.19.0"),
        ("vllm 0.18.1", "vllm 0.19.0"),
        ("vllm 0.30.0", "vllm 0.24.0"),
        ("trtllm 1.3.0rc9", "trtllm 1.3.0rc10"),
        ("nccl 2.24", "nccl 2.23"),
        ("vllm", "vllm 0.24.0"),
        ("torch_eager 2.1.0", "torch_eager 2.1.0"),
        ("", "vllm 0.24.0"),
    ],
)
def test_a_row_is_predicted_with_the_nearest_version_of_its_software(software, profile):
    assert runtime_near("nvidia_h100_sxm5_80gb", software).software == profile
