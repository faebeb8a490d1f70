import numpy as np
import pytest

from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.predictions.operator_predictions import predict_operators, runtime_near


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


def test_a_version_that_was_not_fitted_is_one_step_away(tmp_path):
    path = tmp_path / "kernels.csv"
    rows = [f"h100-sxm5-80gb,gemm,bf16,4096,4096,4096,190,{name}" for name in ("vllm 0.24.0", "vllm 0.23.9")]
    path.write_text("\n".join(("device,op,dtype,m,n,k,latency_us,software", *rows)) + "\n")
    frame = predict_operators(read_measured_file(path))

    fitted, near = np.log(frame.high / frame.predicted)
    np.testing.assert_allclose(near, fitted + 0.1, rtol=1e-9)
