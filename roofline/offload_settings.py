"""The keys that say where a model larger than its memory lives."""

import dataclasses
from dataclasses import dataclass
from typing import Final

__all__ = ["OFFLOADING", "OffloadSettings"]


@dataclass(frozen=True, kw_only=True, eq=False)
class OffloadSettings:
    """Where a model lives that does not fit; None is as the device has it.

    Parameters
    ----------
    memory_limit : str or None
        Most of the near memory that may be used, e.g. ``8 GiB``.
    offload : str or None
        Where the rest goes: ``host``, or ``storage`` (``flash``).
    offload_mode : str or None
        What comes of it: ``stream`` fetches it each pass; ``cache`` keeps the experts used last and
        fetches the others; ``compute`` lets the host compute it where it lies; ``choose`` fetches
        experts in passes where that is sooner and computes them there in others; ``mmap`` pages it in
        on demand. By default ``cache`` for a mixture of experts, else ``stream``.
    n_gpu_layers, experts_on_cpu : float or None
        Layers the device computes, and layers whose experts the host computes; by hand in place of
        what fits.
    cache_experts : float or None
        Expert slots of each layer, in place of what fits.
    cache_policy : str or None
        ``lru``, ``lfu`` or ``static``.
    hit_rate : float or None
        Share of touched experts that the cache serves, as measured.
    reuse : float or None
        Share of experts that the pass before touched as well, beyond popularity; that of published models
        where None.
    prefetch : float or None
        Share of what is fetched that was asked for in time, 0..1.
    prefetch_waste : float or None
        Experts fetched for nothing, over those fetched in time, >= 0; with ``cache``.
    routing : str or None
        ``uniform``, ``zipf:SKEW``, ``correlated:SHARE`` or ``trace:FILE``.
    kv_offload : str or None
        ``host`` keeps the KV cache in host memory and fetches it; ``cpu`` also attends there.
    engine, prefill_engine : str or None
        Engine that computes, or several that share every operator: ``npu``, ``cpu+npu`` by what each
        draws from memory, ``cpu:0.4+npu:0.6`` by hand.
    overlap : str or None
        ``full``, ``serial``, or in how many pieces a layer is cut to overlap them.
    io_block : str or None
        Size of one read from storage.
    io_depth : float or None
        Reads in flight.
    host_software : str or None
        Runtime profile of the host's processor where it computes, e.g. ``kt-kernel``; its default
        where None.
    """

    memory_limit: str | None = None
    offload: str | None = None
    offload_mode: str | None = None
    n_gpu_layers: float | None = None
    experts_on_cpu: float | None = None
    cache_experts: float | None = None
    cache_policy: str | None = None
    hit_rate: float | None = None
    reuse: float | None = None
    prefetch: float | None = None
    prefetch_waste: float | None = None
    routing: str | None = None
    kv_offload: str | None = None
    engine: str | None = None
    prefill_engine: str | None = None
    overlap: str | None = None
    io_block: str | None = None
    io_depth: float | None = None
    host_software: str | None = None

    def offloads(self) -> bool:
        """Return whether anything is said of where the model lives."""
        return any(getattr(self, name) != getattr(OffloadSettings, name) for name in OFFLOADING)


#: Names of the keys.
OFFLOADING: Final = tuple(field.name for field in dataclasses.fields(OffloadSettings))
