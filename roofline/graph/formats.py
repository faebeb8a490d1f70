"""Number formats: how many bits an element takes, scales included, and how it is multiplied."""

import re
from dataclasses import dataclass
from typing import Final

from roofline.errors import UnknownNameError, nearest
from roofline.quantity import Quantity, ceil

__all__ = ["FORMATS", "Format", "format_named", "wider"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A number format with its scales.

    Parameters
    ----------
    name : str
    element_bits : float
        Bits of one element without scales.
    operand : str
        Arithmetic format the matrix unit multiplies it in, where activations allow: ``fp8``; a
        format that only stores weights is multiplied in the activations' format, written ``""``.
    inputs : str
        Format of the inputs it is multiplied with where that is neither its own nor the hidden state's.
    block_inputs, block_outputs : int
        Elements along each dimension that share one scale; 0 means the whole dimension.
    scale_bits : float
        Bits of everything stored per block: scale, zero point, minimum, look-up table.
    outlier_share : float
        Share of the elements (or of the input columns) that a second product handles in 16 bits, 0..1.
    outlier_bits : float
        Bits that one of those takes beside the dense matrix: value and index; 0 where none are stored.
    rounds_inputs : bool
        Whether inputs are quantised, and outputs scaled back, by kernels of their own.
    planes : int
        One-bit matrices a value is taken apart into; a product of planes takes one pass for each
        pair. 0 for an ordinary format.
    nonzero_share : float
        Share of the elements that are stored and multiplied, 0..1; `element_bits` and `outlier_bits`
        are of all elements.
    """

    name: str
    element_bits: float
    operand: str = ""
    inputs: str = ""
    block_inputs: int = 0
    block_outputs: int = 0
    scale_bits: float = 0.0
    outlier_share: float = 0.0
    outlier_bits: float = 0.0
    rounds_inputs: bool = False
    planes: int = 0
    nonzero_share: float = 1.0

    def stored_bytes(self, inputs: Quantity, outputs: Quantity = 1.0) -> Quantity:
        """Return the bytes of an `outputs` x `inputs` matrix, scales included [B]."""
        kept_apart = self.outlier_share * self.outlier_bits
        elements = inputs * (outputs * ((self.element_bits + kept_apart) / 8.0))
        if self.scale_bits == 0.0:
            return elements
        across = ceil(inputs / self.block_inputs) if self.block_inputs else 1.0
        along = ceil(outputs / self.block_outputs) if self.block_outputs else 1.0
        return elements + across * (along * (self.scale_bits / 8.0))

    @property
    def bits(self) -> float:
        """Bits per element with its share of block scales; scales of whole rows depend on the shape."""
        shared = self.block_inputs * max(1, self.block_outputs)
        dense = self.element_bits + (self.scale_bits / shared if shared else 0.0)
        return dense + self.outlier_share * self.outlier_bits


def _plain(name: str, bits: float, operand: str) -> Format:
    return Format(name=name, element_bits=bits, operand=operand)


def _blocked(name: str, bits: float, block: int, scale_bits: float, operand: str = "") -> Format:
    return Format(
        name=name,
        element_bits=bits,
        operand=operand,
        block_inputs=block,
        block_outputs=1,
        scale_bits=scale_bits,
    )


def _widened(name: str, block: int, scale_bits: float, inputs: str) -> Format:
    """Return a 4-bit format whose products are those of 8-bit inputs."""
    return Format(
        name=name,
        element_bits=4,
        operand="fp8",
        inputs=inputs,
        block_inputs=block,
        block_outputs=1,
        scale_bits=scale_bits,
    )


def _look_up(name: str, bits: int, outlier_share: float = 0.0) -> Format:
    """SqueezeLLM (Kim et al. 2023, arXiv:2306.07629, section 4): a table of 2^bits fp16 values for
    each output, and outliers as 16-bit value and 32-bit column in compressed rows."""
    return Format(
        name=name,
        element_bits=bits,
        block_outputs=1,
        scale_bits=16.0 * 2.0**bits,
        outlier_share=outlier_share,
        outlier_bits=16 + 32,
    )


def _in_planes(bits: int) -> Format:
    """Arbitrary precision on one-bit matrix units (Ma et al. 2024, arXiv:2409.17870, section 3)."""
    return Format(name=f"planes{bits}", element_bits=bits, operand="int1", planes=bits)


def _pruned(name: str, of: str, bits: float, nonzero: float, index_bits: float) -> Format:
    """A format that leaves out zeros and says for each element which are left."""
    return Format(name=name, element_bits=bits * nonzero + index_bits, operand=of, nonzero_share=nonzero)


_ALL: Final = (
    _plain("fp32", 32, "fp32"),
    _plain("bf16", 16, "bf16"),
    _plain("fp16", 16, "fp16"),
    # One fp32 scale for the whole matrix, one per output channel, one per 128 x 128 block
    # (DeepSeek-V3, arXiv:2412.19437, section 3.3.2).
    Format(name="fp8", element_bits=8, operand="fp8", scale_bits=32),
    Format(name="fp8_channel", element_bits=8, operand="fp8", block_outputs=1, scale_bits=32),
    Format(
        name="fp8_block", element_bits=8, operand="fp8", block_inputs=128, block_outputs=128, scale_bits=32
    ),
    # As fp8, and the scale of the inputs is stored too: no pass looks for it (compressed-tensors and
    # ModelOpt checkpoints with static activation scales).
    Format(name="fp8_static", element_bits=8, operand="fp8", scale_bits=32 + 32),
    # One fp32 scale per 128 elements of a row: activations and index keys of DeepSeek-V3 and V3.2.
    _blocked("fp8_g128", 8, 128, 32, "fp8"),
    # OCP Microscaling Formats v1.0: 32 elements share an 8-bit exponent.
    _blocked("mxfp8", 8, 32, 8, "fp8"),
    _blocked("mxfp6", 6, 32, 8, "fp6"),
    _blocked("mxfp4", 4, 32, 8, "fp4"),
    # NVFP4: 16 elements share an fp8 scale (NVIDIA 2025, arXiv:2509.25149).
    _blocked("nvfp4", 4, 16, 8, "fp4"),
    # Four bits widened to fp8 in the kernel: int4 groups of 128 with a 16-bit scale (TensorRT-LLM's
    # W4A8_AWQ), and microscaled both ways.
    _widened("w4afp8", 128, 16, "fp8"),
    _widened("w4a8_mxfp4_mxfp8", 32, 8, "mxfp8"),
    Format(name="int8", element_bits=8, operand="int8", block_outputs=1, scale_bits=32),
    # Weight-only: AWQ and GPTQ keep a 16-bit scale and a 4-bit zero point per 128 inputs.
    Format(name="int8_wo", element_bits=8, block_outputs=1, scale_bits=16),
    _blocked("int4", 4, 128, 16 + 4),
    _blocked("int4_g32", 4, 32, 16),
    _blocked("int4_g64", 4, 64, 16 + 4),
    _blocked("int4_g32_zero", 4, 32, 16 + 4),
    _blocked("int4_symmetric", 4, 128, 16),
    Format(name="int4_channel", element_bits=4, block_outputs=1, scale_bits=16 + 4),
    _blocked("int8_g32", 8, 32, 16),
    _blocked("int8_g128", 8, 128, 16 + 8),
    _blocked("int3", 3, 128, 16 + 3),
    _blocked("int2", 2, 128, 16 + 2),
    # NF4 of QLoRA (arXiv:2305.14314): an 8-bit scale per 64, an fp32 one per 256 of those.
    _blocked("nf4", 4, 64, 8 + 32 / 256),
    _blocked("nf4_single", 4, 64, 32),
    # GGUF block layouts (ggml quantisation table): 16-bit scale per 32, or 256-element superblocks.
    _blocked("q8_0", 8, 32, 16),
    _blocked("q5_1", 5, 32, 32),
    _blocked("q5_0", 5, 32, 16),
    _blocked("q4_1", 4, 32, 32),
    _blocked("q4_0", 4, 32, 16),
    _blocked("q6_k", 6, 256, 144),
    _blocked("q5_k", 5, 256, 128),
    _blocked("q4_k", 4, 256, 128),
    _blocked("q3_k", 3, 256, 112),
    _blocked("q2_k", 2, 256, 160),
    _blocked("iq4_nl", 4, 32, 16),
    _blocked("iq4_xs", 4, 256, 64),
    _blocked("iq3_s", 3, 256, 112),
    _blocked("iq3_xxs", 3, 256, 16),
    _blocked("iq2_xxs", 2, 256, 16),
    _blocked("iq2_xs", 2, 256, 80),
    _blocked("iq2_s", 2, 256, 144),
    _blocked("iq1_s", 1, 256, 144),
    _blocked("iq1_m", 1, 256, 192),
    _blocked("tq1_0", 1, 256, 176),
    _blocked("tq2_0", 2, 256, 16),
    _look_up("squeezellm4", 4),
    _look_up("squeezellm3", 3),
    # 0.45 % of the weights, outliers and sensitive values, kept apart (arXiv:2306.07629, section 5.2).
    _look_up("squeezellm4_sparse", 4, 0.0045),
    _look_up("squeezellm3_sparse", 3, 0.0045),
    # Mixed decomposition (LLM.int8(), arXiv:2208.07339, section 3.2): a 16-bit scale per output; more
    # than 99.9 % of the values are multiplied in 8 bits, the rest of the columns in 16.
    Format(
        name="llm_int8",
        element_bits=8,
        operand="int8",
        block_outputs=1,
        scale_bits=16,
        outlier_share=0.001,
        rounds_inputs=True,
    ),
    # Two of four elements with two bits of position each (Mishra et al. 2021, arXiv:2104.08378).
    _pruned("bf16_2of4", "bf16", 16, 0.5, 1.0),
    # 30 % of the weights left out in blocks (SparseByteNN, arXiv:2310.19509); a mask bit per element.
    _pruned("bf16_sparse30", "bf16", 16, 0.7, 1.0),
    *(_in_planes(bits) for bits in (1, 2, 3, 4, 8)),
    # File mixes as llama.cpp writes them: mean bits per weight over the file. Those of Q3_K_L, Q3_K_S and
    # Q5_K_S are of Llama 2 7B (examples/quantize/README.md at b8c1476), of the rest below of Llama 3.1 8B
    # (tools/quantize/README.md at 311c2c9).
    _plain("q4_k_m", 4.85, ""),
    _plain("q4_k_s", 4.58, ""),
    _plain("q5_k_m", 5.69, ""),
    _plain("q3_k_m", 3.91, ""),
    _plain("q5_k_s", 5.52, ""),
    _plain("q3_k_l", 4.27, ""),
    _plain("q3_k_s", 3.50, ""),
    _plain("q2_k_s", 2.9697, ""),
    _plain("iq3_m", 3.7628, ""),
    _plain("iq3_xs", 3.4977, ""),
    _plain("iq2_m", 2.9294, ""),
    _plain("int1", 1, ""),
)

#: Every format by name; adding one here is all a new format needs.
FORMATS: Final = {format.name: format for format in _ALL}

_ALIASES: Final = {
    "fp8_e4m3": "fp8", "e4m3": "fp8", "float16": "fp16", "half": "fp16", "f16": "fp16", "bfloat16": "bf16",
    "float32": "fp32", "f32": "fp32", "float": "fp32", "awq": "int4", "gptq": "int4", "int4_wo": "int4",
    "w4a16": "int4", "w8a8": "int8", "q8": "q8_0", "q4": "q4_0", "fp4": "nvfp4", "q6": "q6_k",
    "int4_g128": "int4", "w4a16_mxfp4": "mxfp4",
}  # fmt: skip

_WIDTH_ORDER: Final = ("fp4", "fp6", "fp8", "int8", "fp16", "bf16", "tf32", "fp32")


#: A format of which only the mean width is known, such as ``4.65_bits``.
_MEAN_WIDTH: Final = re.compile(r"(\d{1,2}(?:\.\d{1,4})?)_bits")


def format_named(name: str) -> Format:
    """Return a format by name or usual alias; raise `UnknownNameError` with the nearest.

    A width such as ``4.65_bits`` is a format that only stores weights, scales included in the width.
    """
    if name in FORMATS:
        return FORMATS[name]
    key = name.casefold().replace("-", "_")
    key = _ALIASES.get(key, key)
    width = _MEAN_WIDTH.fullmatch(key)
    if width is not None and 0.0 < float(width[1]) <= 32.0:
        return _plain(key, float(width[1]), "")
    if key not in FORMATS:
        raise UnknownNameError(f"no number format is called {name!r}{nearest(key, [*FORMATS, *_ALIASES])}")
    return FORMATS[key]


def wider(first: str, second: str) -> str:
    """Return the arithmetic format that holds both operands; an empty name gives way."""
    return max(first, second, key=lambda name: _WIDTH_ORDER.index(name) if name in _WIDTH_ORDER else -1)
