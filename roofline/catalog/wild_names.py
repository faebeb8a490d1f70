"""Names as people write them in tables of measurements: devices, models, formats, softwares.

Names of things are aliases in the catalogue's files. Here are only the trimmings that say nothing of
the thing itself: memory sizes, the board around a chip, tuning and packaging of a model.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from roofline.catalog.files import find, fold, known_names, names_in, read_toml
from roofline.errors import UnknownNameError
from roofline.graph.formats import format_named

__all__ = [
    "checkpoint_format",
    "device_called",
    "engine_called",
    "engine_of",
    "format_called",
    "framework_called",
    "model_called",
    "release_called",
]

_MEMORY_SIZE: Final = re.compile(r"[\s-]*\b\d+\s?GB\b(?:\s+HBM\w+)?", re.IGNORECASE)
_BRACKETED: Final = re.compile(r"\(([^()]*)\)")
#: In brackets after a computer: the card in it, which is what computes.
_CARD: Final = re.compile(r"^(?:nvidia|amd|intel|geforce|radeon)\b\s*", re.IGNORECASE)
_ENGINE: Final = re.compile(r"[\s-]+(cpu|npu|gpu|igpu)\b", re.IGNORECASE)
_TRIMMED: Final = re.compile(
    r"[\s_-]+(?:instruct|chat|it|base|hf|gguf|mlx|thinking|moe|preview|turbo|dense|latest|text|fp8|bf16|f16|"
    r"fp16|awq|gptq|exl[23]|bnb|dwq|qat|int4|int8|nvfp4|mxfp4|dynamic|quantized|i?q[0-9](?:_[0-9a-z]+)*|w[48]a(?:8|16)|"
    r"[0-9]+-?bit|2[0-9]{3}|v0[._][0-9]|[0-9]+k|litertlm)$",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[a-z0-9.+]+")
#: After the name of a device inside a longer one: then it is another device.
_OTHER_DEVICE: Final = frozenset((
    "ti", "super", "laptop", "mobile", "max", "q", "maxq", "xt", "xtx", "gre", "ada", "pro", "ultra", "plus",
    "mini", "lite", "nano", "sxm", "sxm2", "sxm4", "sxm5", "pcie", "nvl", "d", "s", "se", "gen", "elite",
    "blackwell", "edge",
))  # fmt: skip
_NOT_ONE_BOARD: Final = frozenset(("laptop", "mobile", "notebook", "cluster"))
#: Anywhere beside the name of a model inside a longer one: then it is another model.
_OTHER_MODEL: Final = frozenset((
    "draft", "eagle", "eagle2", "eagle3", "medusa", "mtp", "vl", "vision", "moe", "pruned", "sparse", "audio",
    "omni", "nano", "mini", "lite", "speculator",
))  # fmt: skip
_MODEL_SIZE: Final = re.compile(r"(?:\d+x|a|e)?\d+(?:\.\d+)?[bm]")
_GENERATION: Final = re.compile(r"[\s_-]v(?=\d)", re.IGNORECASE)


def _first(names: Iterator[str], section: str, wanted: str) -> str:
    problem: UnknownNameError | None = None
    for name in dict.fromkeys(names):
        try:
            return find(name, section).stem
        except UnknownNameError as error:
            problem = problem or error
    raise problem or UnknownNameError(f"no name in {wanted!r}")


def _inside(text: str, section: str, fits: Callable[[list[str], list[str], list[str]], bool]) -> str | None:
    """Return what the longest known name inside a text stands for.

    Parameters
    ----------
    fits : callable
        Says of the words before, in and after a known name whether it is what the text is about.
    """
    words, known = _WORD.findall(text.casefold()), known_names(section)
    found = [
        (len(name), known[name])
        for start in range(len(words))
        for end in range(start + 1, len(words) + 1)
        if (name := fold("".join(words[start:end]))) in known
        and fits(words[:start], words[start:end], words[end:])
    ]
    return max(found)[1] if found else None


def _same_device(before: list[str], name: list[str], after: list[str]) -> bool:
    """A device's name has a number; what follows it must not make it another one."""
    apart = _NOT_ONE_BOARD.isdisjoint((*before, *after))
    return apart and any(map(str.isdigit, "".join(name))) and not (after and after[0] in _OTHER_DEVICE)


def _same_model(before: list[str], name: list[str], after: list[str]) -> bool:
    """A model's name has its size, and nothing around it is a size or another kind of model."""
    rest = (*before, *after)
    return any(map(_MODEL_SIZE.fullmatch, name)) and not any(
        word in _OTHER_MODEL or _MODEL_SIZE.fullmatch(word) for word in rest
    )


def device_called(text: str) -> str:
    """Return the catalogue name of a device as a table calls it.

    Raises
    ------
    UnknownNameError
        If nothing in the catalogue goes by that name.

    Examples
    --------
    >>> device_called("Intel 265K Custom PC (Nvidia RTX 4090)"), device_called("MSI RTX 4090 Suprim 24G")
    ('nvidia_rtx_4090', 'nvidia_rtx_4090')
    """

    def names() -> Iterator[str]:
        yield text
        for name in _parts(text):
            short = _CARD.sub("", name)
            for plain in (name, short, f"RTX {short}" if short != name and short[:1].isdigit() else short):
                yield plain
                yield _MEMORY_SIZE.sub("", plain)
                yield _ENGINE.sub("", _MEMORY_SIZE.sub("", plain))

    try:
        return _first(names(), "devices", text)
    except UnknownNameError:
        if fold(text) in (systems := known_names("systems")):
            return str(read_toml(names_in("systems")[systems[fold(text)]])["device"])
        for part in _parts(text):
            # A card, then the processor whose memory serves it.
            found = _inside(part.partition(" + ")[0], "devices", _same_device)
            if found is not None:
                return found
        raise


def _parts(text: str) -> list[str]:
    """Return the cards in brackets; where there are none, what is in brackets and what is outside."""
    bracketed = _BRACKETED.findall(text)
    cards = [part for part in bracketed if _CARD.match(part)]
    return cards or [*bracketed, _BRACKETED.sub("", text).strip(" -")]


def engine_called(text: str) -> str | None:
    """Return the engine that a device's name in a table asks for, such as ``cpu``; None for the first."""
    found = _ENGINE.search(_BRACKETED.sub("", text))
    return None if found is None else found[1].lower().removeprefix("i")


def model_called(text: str) -> str:
    """Return the catalogue name of a model as a table calls it.

    Raises
    ------
    UnknownNameError
        If nothing in the catalogue goes by that name.

    Examples
    --------
    >>> model_called("llama3.1:8b-instruct-q4_K_M"), model_called("Nous-Hermes-Llama-2-7b-GPTQ")
    ('meta_llama_3.1_8b', 'meta_llama_2_7b')
    """

    def names() -> Iterator[str]:
        for name in (text, text.rpartition("/")[2]):
            yield name
            plain = _BRACKETED.sub("", name).strip()
            yield plain
            while (shorter := _TRIMMED.sub("", plain)) != plain:
                plain = shorter
                yield plain
                yield _GENERATION.sub(" ", plain)

    try:
        return _first(names(), "models", text)
    except UnknownNameError:
        found = _inside(_BRACKETED.sub("", text.rpartition("/")[2]), "models", _same_model)
        if found is None:
            raise
        return found


#: Spellings of formats, first match wins; the rest are names and aliases of roofline.graph.formats.
_SPELLINGS: Final = (
    (r"(?:w16a16|bf16|bfloat16)$", "bf16"),
    (r"(?:f|fp|float)16$|q0f16", "fp16"),
    (r"(?:w8a8|int8 \(smoothquant\))$", "int8"),
    (r"(?:w8a16|int8|8-?bit)", "int8_wo"),
    (r"fp8\b", "fp8"),
    (r"q4_0_\d_\d$|q40$", "q4_0"),
    (r"q80$", "q8_0"),
    (r"(?:ud-)?q4_k_x?l$", "q4_k_m"),
    (r"(?:w4a16|w4|int4|4-?bit|q4f16).*(?:g|gs)32\b|8da4w", "int4_g32"),
    (r"(?:w4a16|w4|int4|4-?bit|q4f16).*(?:g|gs)64\b", "int4_g64"),
    (r"(?:w4a16|w4|int4|4-?bit|q4f16|gptq|awq)", "int4"),
    (r"(?:w3a16|int3|3-?bit|q3f16)", "int3"),
    (r"i2_s|1\.58", "2_bits"),
)
_PER_WEIGHT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:bpw|bits?[ _]per[ _]weight)")


def format_called(text: str) -> str:
    """Return the weight format as `format_named` knows it.

    Raises
    ------
    UnknownNameError
        If it is no format we know.

    Examples
    --------
    >>> [format_called(text) for text in ("Q4_K_M", "INT4 g32", "W4A16 g128", "F16", "EXL2 4.65 bpw")]
    ['q4_k_m', 'int4_g32', 'int4', 'fp16', '4.65_bits']
    """
    wanted = text.strip().casefold()
    for pattern, name in _SPELLINGS:
        if re.match(pattern, wanted):
            return name
    width = _PER_WEIGHT.search(wanted)
    if width is not None:
        return format_named(f"{float(width[1]):g}_bits").name
    plain = _BRACKETED.sub("", wanted).strip().removeprefix("ud-")
    return format_named(plain.replace("-", "_").replace(" ", "_")).name


#: Vendor -> what it publishes as FP8: quantization_config of Qwen/Qwen3-235B-A22B-FP8 (weight_block_size
#: 128 x 128) and of llama-4-scout-17b-16e-instruct-fp8-dynamic (strategy "channel").
_PUBLISHED_FP8: Final = {"alibaba": "fp8_block", "meta": "fp8_channel"}


def checkpoint_format(model: str, format: str) -> str:
    """Return the format of a vendor's own checkpoint where a table names only its width.

    Parameters
    ----------
    model, format : str
        Names in the catalogue.

    Examples
    --------
    >>> checkpoint_format("alibaba_qwen3_235b_a22b", "fp8"), checkpoint_format("openai_gpt_oss_20b", "mxfp4")
    ('fp8_block', 'mxfp4')
    """
    return _PUBLISHED_FP8.get(model.partition("_")[0], format) if format == "fp8" else format


#: What a runtime's name holds -> the framework whose profiles it takes, first match wins.
_FRAMEWORKS: Final = (
    ("vllm", "vllm"),
    ("sglang", "sglang"),
    ("tensorrt-llm", "trtllm"),
    ("trtllm", "trtllm"),
    ("gpt-fast", "gpt-fast"),
    ("mlc", "mlc"),
    ("mlx", "mlx"),
    ("rkllm", "rkllm"),
    ("executorch", "executorch"),
    ("genie", "qnn"),
    ("qnn", "qnn"),
    ("exllama", "exllamav2"),
    ("llama.cpp", "llama.cpp"),
    ("ollama", "llama.cpp"),
    ("llamafile", "llama.cpp"),
)


#: Frameworks that run on another engine than a device's first.
_ENGINES: Final = {"qnn": "npu", "rkllm": "npu", "llama.cpp_opencl": "gpu"}


def engine_of(framework: str) -> str:
    """Return the engine a framework runs on; empty where it is the device's first."""
    return _ENGINES.get(framework, "")


def framework_called(text: str) -> str:
    """Return the framework behind a runtime's name; empty where none is known."""
    wanted = text.casefold()
    return next((name for part, name in _FRAMEWORKS if part in wanted), "")


#: Releases with profiles of their own, since their host time is another one; first match wins.
_RELEASES: Final = (
    (r"vllm\b.*\b2023\b|vllm[ -]v?0\.[0-2]\b", "vllm_2023"),
    (r"vllm[ -]v?0\.[3-5]\b", "vllm_2024"),
    (r"llama\.cpp opencl\b", "llama.cpp_opencl"),
    (r"llama\.cpp \(late 2023\b", "llama.cpp_2023"),
)


def release_called(text: str) -> str:
    """Return the profile of an old release of a framework that a runtime's name tells; empty otherwise.

    Examples
    --------
    >>> [release_called(text) for text in ("vLLM (2023, Splitwise)", "vLLM 0.5.x (2024)", "vLLM 0.24.0")]
    ['vllm_2023', 'vllm_2024', '']
    """
    wanted = text.casefold()
    return next((name for pattern, name in _RELEASES if re.search(pattern, wanted)), "")
