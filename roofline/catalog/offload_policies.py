"""How runtimes place a model that is larger than the device's memory, each by its own documents."""

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["AUTOMATIC", "CLUSTERED", "POLICIES", "OffloadPolicy", "policy_called"]

Way = Literal["experts_on_host", "choose", "cache", "stream", "layers", "mmap", "refused"]


@dataclass(frozen=True, kw_only=True)
class OffloadPolicy:
    """Where a runtime leaves weights, and what comes of it.

    Parameters
    ----------
    name, written_as : str
        Its name, and a pattern of how tables write it, matched without case.
    way : str
        ``experts_on_host``: routed experts stay in host memory and are computed there; ``choose``:
        there or fetched, whichever is sooner; ``cache``: experts are fetched into slots; ``stream``:
        what does not fit is fetched each pass; ``layers``: the host computes whole layers that do not
        fit; ``mmap``: paged in from storage; ``refused``: another machine has it, see `note`.
    runs_as : str
        Framework whose profile stands for its kernels on the device.
    host_software : str or None
        Profile of the host's processor; its default where None.
    fetch_above : float or None
        Tokens of a pass above which experts of the host are fetched instead.
    link_share : float
        Share of the host link's bandwidth that its copies reach, 0..1.
    gather_share : float or None
        Share of the host memory's bandwidth at which experts are first put together for a copy; None
        where they are copied from where they lie.
    prefetched : float
        Share of what it fetches that arrives in time, 0..1.
    all_experts : bool
        Whether a pass fetches every expert of a layer, picked or not.
    keeps_none : bool
        Whether it fetches all weights each pass, even those that would fit.
    host_cache, host_attention : bool
        Whether caches stay with the host, on its storage where its memory is short, and are fetched;
        whether the host attends to them instead.
    cache_format : str or None
        Format it keeps caches in; the model's where None.
    unpacked_bytes : float
        Bytes of the device's memory that its kernels move to unpack one element of weights or caches.
    turned_bytes : float
        The same to turn one element of the caches for its products.
    memory_share : float
        Share of the device's memory that it uses, 0..1.
    reserved_tokens : float or None
        Tokens its cache memory is made for from the start.
    eager : bool
        Whether its layers are launched kernel by kernel from Python, between copies.
    across : str or None
        How it divides a model over several machines that the device cell lists: ``best``, the layers of
        each and the rounds that make a token fastest; ``memory``, layers in proportion to memory;
        ``tensor``, an equal share of every matrix; None where it runs on one.
    joined_by : str
        Catalogue name of what joins the machines, where a table does not say.
    numa_aware : bool
        Whether every socket works on weights in its own memory; otherwise two sockets read no faster
        than one.
    spread : float
        Half width of the 80 % interval that the placement adds, as a logarithm.
    source, note : str
        Where the rule is documented; how its shares were chosen.
    """

    name: str
    written_as: str
    way: Way
    runs_as: str = ""
    host_software: str | None = None
    fetch_above: float | None = None
    link_share: float = 1.0
    gather_share: float | None = None
    prefetched: float = 0.0
    all_experts: bool = False
    keeps_none: bool = False
    host_cache: bool = False
    host_attention: bool = False
    cache_format: str | None = None
    unpacked_bytes: float = 0.0
    turned_bytes: float = 0.0
    memory_share: float = 1.0
    reserved_tokens: float | None = None
    numa_aware: bool = False
    across: Literal["best", "memory", "tensor"] | None = None
    joined_by: str = "ethernet_1g"
    eager: bool = False
    spread: float = 0.5
    source: str
    note: str = ""


#: A copy from memory that is not pinned: 3.7 GB/s of PCIe 3.0 x16 in the rows of Accelerate that
#: FlexGen's README states, taken for all who copy so.
_PAGEABLE: Final = 0.3
_PINNED: Final = 0.8

#: Share of memories at home that a model gets: their users' programs run on.
_AT_HOME: Final = 0.7

#: First match wins.
POLICIES: Final = (
    OffloadPolicy(
        name="kt-kernel",
        written_as=r"kt[-_ ]kernel|sglang[-_ ]kt|ktransformers\D{0,3}0\.[4-9]",
        way="experts_on_host",
        runs_as="sglang",
        host_software="kt-kernel",
        fetch_above=4096.0,
        link_share=_PINNED,
        gather_share=0.1,
        numa_aware=True,
        spread=0.3,
        source="kvcache-ai/ktransformers, kt-kernel/README.md and doc/en/kt-kernel: experts on the "
        "processor, layerwise prefill above --kt-gpu-prefill-token-threshold, 4096 by default",
        note="gather_share fitted on Kimi-K2-Thinking, checked on MiniMax-M2.1",
    ),
    OffloadPolicy(
        name="ktransformers",
        written_as=r"k-?transformers",
        way="experts_on_host",
        runs_as="llama.cpp",
        host_software="ktransformers",
        numa_aware=True,
        spread=0.3,
        source="kvcache-ai/ktransformers, doc/en/DeepseekR1_V3_tutorial.md: routed experts on the "
        "processor, attention and shared experts on the card",
    ),
    OffloadPolicy(
        name="fiddler",
        written_as=r"fiddler",
        way="choose",
        runs_as="vllm",
        link_share=_PINNED,
        eager=True,
        source="Fiddler, Kamahori et al. 2024, arXiv:2402.07033, section 3.3",
    ),
    OffloadPolicy(
        name="moe-infinity",
        written_as=r"moe[-_ ]infinity",
        way="cache",
        runs_as="vllm",
        link_share=_PINNED,
        prefetched=0.5,
        memory_share=0.75,
        spread=0.9,
        eager=True,
        source="MoE-Infinity, Xue et al. 2024, arXiv:2401.14361; README: device_memory_ratio 0.75",
        note="the share prefetched in time is an estimate: half",
    ),
    OffloadPolicy(
        name="mixtral-offloading",
        written_as=r"mixtral[-_ ]offload",
        way="cache",
        runs_as="vllm",
        link_share=_PINNED,
        prefetched=0.3,
        spread=0.7,
        eager=True,
        source="Eliseev and Mazur 2023, arXiv:2312.17238: an LRU cache of experts with speculative loading",
        note="the share loaded in time is an estimate: experts of the next layer guessed",
    ),
    OffloadPolicy(
        name="flexgen, compressed",
        written_as=r"flexgen.*(?:compress|4-bit|int4)",
        way="stream",
        runs_as="vllm",
        link_share=_PAGEABLE,
        prefetched=1.0,
        host_cache=True,
        cache_format="int4",
        unpacked_bytes=13.0,
        turned_bytes=4.0,
        spread=1.2,
        eager=True,
        source="FlexGen, Sheng et al. 2023, arXiv:2303.06865, section 5: weights and caches in groups of 4 "
        "bits, which only the card unpacks; flexgen/compression.py, decompress: shift, mask, two copies, "
        "division and addition in place; flexgen/pytorch_backend.py: the host's caches are not pinned "
        "(init_cache_one_gpu_batch) and relayed (general_copy), keys and values permuted into copies "
        "(mha_gen)",
        note="of a packed byte shift and mask move 2 B each, their copies 3 B each, so 5 B an element; "
        "division and addition 4 B each; a permuted copy 2 B read and 2 B written",
    ),
    OffloadPolicy(
        name="flexgen",
        written_as=r"flexgen",
        way="stream",
        runs_as="vllm",
        link_share=_PINNED,
        prefetched=1.0,
        host_software="flexgen",
        host_cache=True,
        host_attention=True,
        spread=0.7,
        eager=True,
        source="FlexGen, Sheng et al. 2023, arXiv:2303.06865, sections 4 and 6: weights by share over card, "
        "host and disk, caches with the host, which attends; a block of batches per fetch",
        note="shares by capacity, as its policy search gives where throughput is the goal",
    ),
    OffloadPolicy(
        name="deepspeed",
        written_as=r"deepspeed|zero[- ]inference",
        way="stream",
        runs_as="vllm",
        link_share=0.58,
        prefetched=1.0,
        all_experts=True,
        keeps_none=True,
        eager=True,
        source="DeepSpeed ZeRO-Inference, Aminabadi et al. 2022, arXiv:2207.00032, section 6: all weights "
        "in host memory or on disk, the next layer prefetched",
        note="link_share fitted on OPT-30B in FlexGen's README, checked on OPT-6.7B; experts as accelerate",
    ),
    OffloadPolicy(
        name="accelerate",
        written_as=r"accelerate|transformers|hugging ?face|\bhf\b",
        way="stream",
        runs_as="vllm",
        link_share=_PAGEABLE,
        all_experts=True,
        eager=True,
        source="Hugging Face Accelerate, big model inference: device_map auto fills card, then host, then "
        "disk; a hook copies a module before it runs, and transformers' mixtures of experts "
        "(modeling_mixtral.py) run every expert in a loop, one without tokens too",
    ),
    OffloadPolicy(
        name="airllm",
        written_as=r"airllm",
        way="stream",
        runs_as="vllm",
        link_share=_PAGEABLE,
        prefetched=1.0,
        keeps_none=True,
        spread=0.8,
        eager=True,
        source="lyogavin/airllm, README: layer by layer from disk, prefetching overlaps loading and "
        "computing",
    ),
    OffloadPolicy(
        name="petals",
        written_as=r"petals",
        way="refused",
        source="Petals, Borzunov et al. 2022, arXiv:2209.01188",
        note="layers lie on a swarm of other machines, whose number and links the table does not state",
    ),
    OffloadPolicy(
        name="powerinfer",
        written_as=r"powerinfer[- ]?2|powerinfer.*(?:sparse|smallthinker)",
        way="cache",
        runs_as="llama.cpp",
        reserved_tokens=4096.0,
        spread=0.9,
        source="PowerInfer-2, Xue et al. 2024, arXiv:2406.06282: hot neurons in memory, cold ones from "
        "flash, reading beside computing; smallthinker/README.md: a fork of llama.cpp, slots for whole "
        "experts",
        note="that nothing is read beside computing was chosen on nine capped rows of smallthinker/README.md",
    ),
    OffloadPolicy(
        name="prima.cpp",
        written_as=r"prima",
        way="mmap",
        runs_as="llama.cpp",
        prefetched=1.0,
        across="best",
        joined_by="wifi_6",
        memory_share=_AT_HOME,
        spread=1.2,
        source="prima.cpp, Li et al. 2025, arXiv:2504.08791: layers in windows around a ring of devices, "
        "mapped from file and prefetched; the split solves for the least time of a token",
        note="free memory of computers at home is an estimate",
    ),
    OffloadPolicy(
        name="exo",
        written_as=r"\bexo\b",
        way="mmap",
        runs_as="llama.cpp",
        across="memory",
        memory_share=_AT_HOME,
        spread=1.2,
        source="exo-explore/exo, README: ring memory weighted partitioning",
        note="free memory of computers at home is an estimate",
    ),
    OffloadPolicy(
        name="distributed-llama",
        written_as=r"\bdllama\b|distributed[- ]?llama",
        way="mmap",
        runs_as="llama.cpp",
        across="tensor",
        spread=1.2,
        source="b4rtaz/distributed-llama, README: tensor parallelism over 2^n nodes, as many as the model "
        "has KV heads at most",
        note="the slowest machine sets the pace; kernels of llama.cpp stand for its own",
    ),
    OffloadPolicy(
        name="tpi-llm",
        written_as=r"\btpi[-_ ]?llm",
        way="stream",
        runs_as="llama.cpp",
        across="tensor",
        prefetched=1.0,
        spread=1.2,
        source="TPI-LLM, Li et al. 2024, arXiv:2410.00531: tensor parallelism, layers streamed through a "
        "window in memory",
    ),
    OffloadPolicy(
        name="llama.cpp over RPC",
        written_as=r"\brpc\b|gpustack",
        way="mmap",
        runs_as="llama.cpp",
        across="memory",
        spread=0.9,
        source="ggml-org/llama.cpp, tools/rpc/README.md: layers in proportion to the memory of each machine",
    ),
    OffloadPolicy(
        name="llama.cpp",
        written_as=r"llama\.?cpp|llama-bench|ollama|llamafile|lm studio|powerinfer|koboldcpp",
        way="layers",
        runs_as="llama.cpp",
        reserved_tokens=4096.0,
        spread=0.7,
        source="ggml-org/llama.cpp: --n-gpu-layers computes the other layers on the processor; weights are "
        "mapped from the file; a context of 4,096 tokens unless said",
    ),
    OffloadPolicy(
        name="vllm",
        written_as=r"vllm|sglang",
        way="stream",
        runs_as="vllm",
        link_share=_PINNED,
        prefetched=0.0,
        spread=0.7,
        source="vLLM, engine arguments: cpu_offload_gb reads weights from host memory during the forward "
        "pass",
    ),
    OffloadPolicy(
        name="mobile",
        written_as=r"\bmlc\b|mllm|mnn|executorch|rkllm|genie|qnn",
        way="mmap",
        spread=1.2,
        source="files are mapped; what memory lacks is paged in",
    ),
)

#: Where the runtime is not known: what fits stays, experts are cached, other weights are streamed.
AUTOMATIC: Final = OffloadPolicy(
    name="automatic",
    written_as="",
    way="stream",
    link_share=_PINNED,
    prefetched=0.5,
    spread=1.2,
    source="docs/offload.md section 3",
    note="the runtime is not known: placed by capacity",
)

#: Where machines are called a cluster and the runtime divides nothing by itself.
CLUSTERED: Final = OffloadPolicy(
    name="a cluster",
    written_as="",
    way="mmap",
    runs_as="llama.cpp",
    across="memory",
    spread=1.2,
    source="ggml-org/llama.cpp, tools/rpc/README.md",
    note="how the cluster divides the model is not said: taken to be by layers",
)


def policy_called(text: str) -> OffloadPolicy:
    """Return the policy of a runtime as a table writes it, `AUTOMATIC` where none is known.

    The model's name may follow it: PowerInfer runs dense models as llama.cpp does.

    Examples
    --------
    >>> [policy_called(text).name for text in ("kt-kernel + SGLang", "KTransformers V0.2.1", "Ollama 0.5")]
    ['kt-kernel', 'ktransformers', 'llama.cpp']
    """
    found = (policy for policy in POLICIES if re.search(policy.written_as, text, re.IGNORECASE))
    return next(found, AUTOMATIC)
