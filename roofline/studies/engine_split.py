"""One matrix shared by the engines of a chip, each with its rate, under the cap of the memory they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roofline.errors import InvalidSpecError, nearest
from roofline.hardware.device import Device
from roofline.quantity import Quantity, maximum, total
from roofline.timing.cost import arithmetic

__all__ = ["EngineSplit", "split_matrix"]


@dataclass(frozen=True, kw_only=True, eq=False)
class EngineSplit:
    """Shares of a matrix and how long all engines take together.

    Parameters
    ----------
    shares : mapping of engine to Quantity
        Of the matrix's outputs, adding up to 1.
    alone_s : mapping of engine to Quantity
        The whole matrix on one engine [s].
    time_s, memory_s : Quantity
        All engines side by side, and the least that the memory they share takes [s].
    """

    shares: Mapping[str, Quantity]
    alone_s: Mapping[str, Quantity]
    time_s: Quantity
    memory_s: Quantity


def split_matrix(
    device: Device,
    *,
    weight_bytes: Quantity,
    parameters: Quantity,
    tokens: Quantity,
    engines: Sequence[str],
    compute_format: str = "fp16",
    least_tokens: Mapping[str, Quantity] | None = None,
) -> EngineSplit:
    """Return the split of a matrix over engines that all finish together.

    Parameters
    ----------
    weight_bytes, parameters : Quantity
        Of the matrix [B] and its number of weights.
    tokens : Quantity
        Multiplied at once, >= 1.
    engines : sequence of str
        Of the device.
    least_tokens : mapping of engine to Quantity
        The batch below which an engine takes as long as at it: rows of its tile, or of a compiled graph;
        1 where it is not named.

    Raises
    ------
    InvalidSpecError
        If the device lacks an engine or one is named twice.

    Notes
    -----
    Alone an engine takes ``t_e = max(W / bw_e, 2 P max(n, n_e) / peak_e)``. With shares in proportion to
    ``1 / t_e`` all finish after ``1 / sum(1 / t_e)``; the memory they share takes at least
    ``W / bw_shared``. So a matrix is split in about halves where memory binds and goes to the NPU as the
    batch grows, as in PowerInfer-2 (arXiv:2406.06282, section 4.1). Handing over and activations are not
    counted.

    Examples
    --------
    >>> from roofline.catalog.hardware import load_device
    >>> phone = load_device("snapdragon-8-gen-3").value
    >>> found = split_matrix(
    ...     phone, weight_bytes=33e6, parameters=58.7e6, tokens=1.0, engines=("cpu", "npu"),
    ...     least_tokens={"npu": 32.0},
    ... )
    >>> round(float(found.shares["npu"]), 2)
    0.56
    """
    if len(set(engines)) < len(engines) or not engines:
        raise InvalidSpecError(f"engines: want each once, got {', '.join(engines) or 'none'}")
    memory = next(iter(device.memory.values()))
    near = memory.bandwidth_bytes_per_s
    alone: dict[str, Quantity] = {}
    for name in engines:
        if name not in device.engine:
            raise InvalidSpecError(f"{device.name}: has no engine {name!r}{nearest(name, device.engine)}")
        engine = device.engine[name]
        limit = engine.bandwidth_limit_bytes_per_s
        _, peak = arithmetic(engine, compute_format)
        rows = maximum(tokens, (least_tokens or {}).get(name, 1.0))
        alone[name] = maximum(
            weight_bytes / (near if limit is None else limit), 2.0 * parameters * rows / peak
        )
    speed = total(1.0 / seconds for seconds in alone.values())
    shared = memory.shared_bandwidth_bytes_per_s
    memory_s = weight_bytes / (near if shared is None or len(engines) == 1 else shared)
    return EngineSplit(
        shares={name: 1.0 / seconds / speed for name, seconds in alone.items()},
        alone_s=alone,
        time_s=maximum(1.0 / speed, memory_s),
        memory_s=memory_s,
    )
