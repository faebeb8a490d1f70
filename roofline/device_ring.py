"""Layers of one model spread over unlike devices that pass a token around a ring."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from roofline.analysis import analyze
from roofline.errors import InvalidSpecError
from roofline.hardware.link import Link
from roofline.hardware.storage import Storage
from roofline.offload_settings import OffloadSettings
from roofline.offloading import offloaded
from roofline.quantity import Quantity, maximum, minimum, total, where
from roofline.report import Report
from roofline.scenario import Scenario
from roofline.timing.deployment import Deployment
from roofline.timing.expert_cache import USUAL_REUSE, recent_share
from roofline.timing.offloading import page_fault

__all__ = [
    "AnalyzedDevice",
    "Paging",
    "Ring",
    "RingDevice",
    "analyzed_device",
    "best_ring",
    "proportional_ring",
    "ring_time",
]

Paging = Literal["mapped", "pinned"]
Phase = Literal["decode", "prefill"]
End = Literal["value", "low", "high", "ideal"]

#: Not decoder layers: run once for each token, by the first device.
_AROUND: Final = ("embedding", "final_norm", "head")
#: What a layer holds for the tokens before.
_CACHED: Final = ("kv_cache", "state")
#: Of one element of the hidden states that are passed on, in 16 bits.
_STATE_BYTES: Final = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class RingDevice:
    """What one device of a ring needs for a layer, and what it can hold.

    Parameters
    ----------
    near_s, around_s : Quantity
        A decode pass through one layer, and through embedding and head [s].
    host_s : Quantity or None
        A layer on the processor beside the device [s]; None where there is none.
    layer_bytes, cache_bytes : Quantity
        Weights of a layer, and its KV cache at the end of the generation [B].
    touched_bytes : Quantity or None
        Weights of a layer that a token reads, where it picks experts [B]; None where it reads all.
    near_bytes, host_bytes : Quantity
        What the device's memory, and that of the processor beside it, leave for layers [B].
    read_bytes_per_s, fault_bytes_per_s : Quantity
        Rate of its storage in one sweep, and by page faults [B/s]; 0 where it has none.
    send_s : Quantity
        Hidden states to the next device [s].
    """

    name: str
    near_s: Quantity
    around_s: Quantity
    host_s: Quantity | None = None
    layer_bytes: Quantity
    cache_bytes: Quantity = 0.0
    touched_bytes: Quantity | None = None
    near_bytes: Quantity
    host_bytes: Quantity = 0.0
    read_bytes_per_s: Quantity = 0.0
    fault_bytes_per_s: Quantity = 0.0
    send_s: Quantity = 0.0

    def near_layers(self, layers: Quantity) -> Quantity:
        """Return how many of its layers the device itself computes, not the processor beside it."""
        if self.host_s is None:
            return layers
        return minimum(layers, self.near_bytes // (self.layer_bytes + self.cache_bytes))

    def compute_s(self, layers: Quantity) -> Quantity:
        """Return the time of a token in its layers, all of them in memory [s]."""
        near = self.near_layers(layers)
        return near * self.near_s + (layers - near) * (0.0 if self.host_s is None else self.host_s)

    def paged(self, layers: Quantity, paging: Paging) -> tuple[Quantity, Quantity, Quantity]:
        """Return what it reads again for each token, memory's room for that, and what exceeds it [B]."""
        alone = self.host_s is None
        lying = layers if alone else layers - self.near_layers(layers)
        capacity = self.near_bytes if alone else self.host_bytes
        room = maximum(capacity - lying * self.cache_bytes, 0.0)
        held = lying * self.layer_bytes
        excess = maximum(held - room, 0.0)
        if self.touched_bytes is not None:
            wanted = lying * self.touched_bytes
            recent = recent_share(held_passes=room / maximum(wanted, 1e-300), reuse=USUAL_REUSE)
            missed = where(room < wanted, 1.0, (1.0 - recent) * excess / maximum(held, 1e-300))
            again = where(excess > 0.0, wanted * missed, 0.0)
        elif paging == "mapped":
            again = where(excess > 0.0, held, 0.0)
        else:
            again = excess
        return again, room, excess


@dataclass(frozen=True, kw_only=True, eq=False)
class Ring:
    """A token's way around a ring.

    Parameters
    ----------
    devices : tuple of RingDevice
    layers : tuple of Quantity
        Of each device, in all rounds together.
    rounds : Quantity
        Times a token passes each device.
    token_s : Quantity
        Time per token of a sequence [s].
    compute_s, send_s, read_s : Quantity
        Computing one after another, passing on, and waiting for storage on top of that [s].
    busy_s : tuple of Quantity
        How long each device works on a token, reading included [s].
    lacking_bytes : tuple of Quantity
        What a device can neither hold nor read [B].
    """

    devices: tuple[RingDevice, ...]
    layers: tuple[Quantity, ...]
    rounds: Quantity
    token_s: Quantity
    compute_s: Quantity
    send_s: Quantity
    read_s: Quantity
    busy_s: tuple[Quantity, ...]
    lacking_bytes: tuple[Quantity, ...]

    @property
    def fits(self) -> Quantity:
        """1 where every device holds its layers or can read them, else 0."""
        return where(total(self.lacking_bytes) > 0.0, 0.0, 1.0)

    @property
    def binding(self) -> str:
        """What most of a token's time goes to, for a single point."""
        spent = {"compute": self.compute_s, "link": self.send_s, "storage": self.read_s}
        return max(spent, key=lambda name: float(spent[name]))

    def tokens_per_s(self, sequences: Quantity) -> Quantity:
        """Return tokens per second with so many sequences, or batches, on their way at once, >= 1.

        Notes
        -----
        A pipeline over volunteers' devices (Borzunov et al. 2023, arXiv:2312.08361): at best all but the
        busiest device wait, so the rate is ``min(sequences / token, 1 / busiest)``. Queueing is left out.
        """
        return minimum(sequences / self.token_s, 1.0 / _longest(self.busy_s))


def ring_time(
    devices: Sequence[RingDevice],
    layers: Sequence[Quantity],
    *,
    rounds: Quantity = 1.0,
    prefetch: bool = True,
    paging: Paging = "mapped",
) -> Ring:
    """Return how long a token takes around a ring whose devices hold so many layers.

    Parameters
    ----------
    layers : sequence of Quantity
        Decoder layers of each device, in order, >= 0.
    rounds : Quantity
        Times a token passes each device, >= 1; a device works on its layers in as many windows.
    prefetch : bool
        Whether a device reads its next window while the others work.
    paging : str
        ``mapped``: a page cache that drops the oldest, so a device whose layers do not fit reads all of them
        again for each token; ``pinned``: only those that do not fit.

    Raises
    ------
    InvalidSpecError
        If there are not as many counts as devices.

    Notes
    -----
    A token is on one device at a time, so computing and sending add up. A device reads ahead while the
    others work, at most what its memory holds of a window: reading more would drop what was read first.
    With R rounds, room H and P bytes to read for each token it reads ``min(P, R H)`` ahead in one sweep
    and the rest by page faults, waiting. With c_m, n_m, p_m and d_m what device m takes for a token to
    compute, to send, to read ahead and to read by faults,

        ``t = max(sum_m (c_m + n_m + d_m), max_m (c_m + d_m + p_m))``.

    Of experts a token reads only those it picks, none ahead, and finds what an LRU cache does under uniform
    routing whose passes choose alike to the usual degree (`USUAL_REUSE`). More rounds make windows that
    fit, and more sending: the piped ring of prima.cpp (Li et al. 2025, arXiv:2504.08791), whose effects
    these are; the closed form is ours. The first device has embedding and head. Layers are taken to be
    alike.
    """
    if not devices or len(layers) != len(devices):
        raise InvalidSpecError(f"ring: {len(devices)} devices, but layers for {len(layers)}")
    computed, waited, busy, lacking = [], [], [], []
    for place, (device, count) in enumerate(zip(devices, layers, strict=True)):
        again, room, excess = device.paged(count, paging)
        readable = where(device.read_bytes_per_s > 0.0, again, 0.0)
        known = prefetch and device.touched_bytes is None
        ahead = minimum(readable, rounds * room) if known else 0.0 * readable
        faults = (readable - ahead) / maximum(device.fault_bytes_per_s, 1e-30)
        computed.append(device.compute_s(count) + (device.around_s if place == 0 else 0.0))
        waited.append(faults)
        busy.append(computed[-1] + faults + ahead / maximum(device.read_bytes_per_s, 1e-30))
        lacking.append(where(device.read_bytes_per_s > 0.0, 0.0, excess))
    used = [where(count > 0.0, 1.0, 0.0) for count in layers]
    several = where(total(used) > 1.0, rounds, 0.0)
    send = several * total(device.send_s * here for device, here in zip(devices, used, strict=True))
    passed = total(computed) + send + total(waited)
    token = maximum(passed, _longest(busy))
    return Ring(
        devices=tuple(devices),
        layers=tuple(layers),
        rounds=rounds,
        token_s=token,
        compute_s=total(computed),
        send_s=send,
        read_s=total(waited) + maximum(token - passed, 0.0),
        busy_s=tuple(busy),
        lacking_bytes=tuple(lacking),
    )


def best_ring(
    devices: Sequence[RingDevice],
    layers: int,
    *,
    rounds: Sequence[int] = (1, 2, 4, 8),
    least: int = 0,
    prefetch: bool = True,
    paging: Paging = "mapped",
) -> Ring:
    """Return the split of a model's layers over devices, and the rounds, with the least time per token.

    Parameters
    ----------
    layers : int
        Decoder layers of the model, >= 1.
    rounds : sequence of int
        Numbers to try; those that do not divide `layers` are left out.
    least : int
        Layers of a window that every device has at least.

    Raises
    ------
    InvalidSpecError
        If none of them divides `layers`, or leaves every device so many.

    Notes
    -----
    Windows are given out layer by layer to the device that makes the token fastest, then 1, 2, 4 ... or all
    layers of a device move to another as long as that helps: a local optimum. A device may get none unless
    `least` says otherwise.
    """
    found = []
    for count in rounds:
        if count > 0 and layers % count == 0 and layers // count >= least * len(devices):

            def ring(windows: Sequence[int], count: int = count) -> Ring:
                held = [float(window * count) for window in windows]
                return ring_time(devices, held, rounds=float(count), prefetch=prefetch, paging=paging)

            found.append(ring(_split(ring, len(devices), layers // count, least)))
    if not found:
        raise InvalidSpecError(
            f"ring: no number of rounds in {list(rounds)} divides {layers} layers into windows of at least "
            f"{least} for each device"
        )
    return min(found, key=_badness)


def proportional_ring(
    devices: Sequence[RingDevice], layers: int, *, prefetch: bool = False, paging: Paging = "mapped"
) -> Ring:
    """Return the ring of one round whose devices hold layers in proportion to their memory.

    Notes
    -----
    What llama.cpp does over RPC (ggml-org/llama.cpp, tools/rpc/README.md) and exo by default
    (exo-explore/exo, README: ring memory weighted partitioning). Whole layers go to the largest
    remainders.
    """
    rooms = [float(device.near_bytes) + float(device.host_bytes) for device in devices]
    shares = [layers * room / max(sum(rooms), 1.0) for room in rooms]
    held = [int(share) for share in shares]
    order = sorted(range(len(devices)), key=lambda place: held[place] - shares[place])
    for place in order[: layers - sum(held)]:
        held[place] += 1
    return ring_time(devices, [float(count) for count in held], prefetch=prefetch, paging=paging)


@dataclass(frozen=True, kw_only=True, eq=False)
class AnalyzedDevice:
    """The whole model on one device of a ring, and on the processor beside it.

    Parameters
    ----------
    report : Report
        On the device; its memory need not suffice. No parallelism, no offloading.
    beside : Report or None
        On the processor; None where there is none.
    host_bytes : Quantity
        Memory of that processor [B].
    """

    report: Report
    beside: Report | None = None
    host_bytes: Quantity = 0.0

    def ring_device(
        self,
        link: Link | None = None,
        *,
        storage: Storage | None = None,
        first: bool = True,
        phase: Phase = "decode",
        end: End = "value",
    ) -> RingDevice:
        """Return it as part of a ring.

        Parameters
        ----------
        link : Link or None
            To the next device; None where there is none.
        storage : Storage or None
            In place of what the system has.
        first : bool
            Whether it holds embedding and head.
        phase : str
            ``decode`` for a token of each sequence; ``prefill`` for all prompts at once.
        end : str
            ``value``, ``low`` or ``high`` of the interval; ``ideal`` at datasheet figures.

        Notes
        -----
        A layer's time is that of a mean pass without embedding and head, over the layers; on the
        processor beside the device, that of a pass with all layers there. Both rest on the runtime
        profiles of a whole pass, host time included.
        """
        scenario = self.report.scenario
        deployment, workload = scenario.deployment, scenario.workload
        system = deployment.system
        layers = float(total(deployment.model.layer_counts().values()))
        sizes = [(layer, float(size)) for layer, _, _, size in deployment.weight_bytes()]
        tier, held = next(iter(self.report.memory.used_bytes.items()))
        around_bytes = sum(size for layer, size in sizes if layer in _AROUND)
        cache = sum(float(held.get(name, 0.0)) for name in _CACHED)
        other = sum(float(size) for name, size in held.items() if name not in ("weights", *_CACHED))
        passed_s, around_s = _pass_s(self.report, phase, end)
        host_s = None
        if self.beside is not None:
            whole_s, apart_s = _pass_s(self.beside, phase, end)
            host_s = (whole_s - apart_s) / layers
        pass_ = self.report.decode if phase == "decode" else self.report.prefill
        tensors = pass_.bytes_by_tensor
        looked_up = (
            0.0 if deployment.model.head.tied else sum(size for layer, size in sizes if layer == "embedding")
        )
        read = float(total(tensors.get(name, 0.0) for name in ("weight", "expert_weight"))) + looked_up
        storage = system.storage if storage is None else storage
        tokens = float(workload.batch_size) * (1.0 if phase == "decode" else float(workload.prompt_tokens))
        message = tokens * deployment.model.hidden_size * _STATE_BYTES
        return RingDevice(
            name=system.name,
            near_s=(passed_s - around_s) / layers,
            around_s=around_s,
            host_s=host_s,
            layer_bytes=(sum(size for _, size in sizes) - around_bytes) / layers,
            cache_bytes=cache / layers,
            touched_bytes=max(read - around_bytes, 0.0) / layers if "expert_weight" in tensors else None,
            near_bytes=max(
                float(self.report.memory.capacity_bytes[tier]) - other - (around_bytes if first else 0.0), 0.0
            ),
            host_bytes=self.host_bytes,
            read_bytes_per_s=0.0 if storage is None else storage.read_bandwidth_bytes_per_s,
            fault_bytes_per_s=0.0 if storage is None else _fault_rate(deployment, storage),
            send_s=0.0 if link is None else link.latency_s + message / link.bandwidth_bytes_per_s,
        )


def analyzed_device(
    scenario: Scenario, *, beside: Scenario | None = None, intervals: bool = False
) -> AnalyzedDevice:
    """Return the whole model analysed on one device and on the processor beside it.

    Parameters
    ----------
    beside : Scenario or None
        The whole model on the processor; None takes that of the system, if it has one.
    """
    system = scenario.deployment.system
    report = analyze(scenario, intervals=intervals)
    if beside is not None:
        cpu = analyze(beside, intervals=intervals)
        return AnalyzedDevice(
            report=report, beside=cpu, host_bytes=float(next(iter(cpu.memory.capacity_bytes.values())))
        )
    if system.host is None or "cpu" not in system.host.engine:
        return AnalyzedDevice(report=report)
    cpu = analyze(offloaded(scenario, OffloadSettings(n_gpu_layers=0.0)), intervals=intervals)
    return AnalyzedDevice(report=report, beside=cpu, host_bytes=float(cpu.memory.capacity_bytes["host"]))


def _fault_rate(deployment: Deployment, storage: Storage) -> Quantity:
    """Rate at which page faults bring in weights, mapping their pages included [B/s]."""
    fault = page_fault(deployment)
    rate = storage.read_rate(access_bytes=fault.access_bytes, queue_depth=fault.queue_depth)
    return fault.access_bytes / (fault.access_bytes / rate + fault.read_s)


def _pass_s(report: Report, phase: Phase, end: End) -> tuple[float, float]:
    """A whole pass, and embedding and head of it [s]."""
    pass_ = report.decode if phase == "decode" else report.prefill
    value = float(pass_.time_s.value)
    around = sum(float(row.time_s) for row in pass_.rows if row.operator.layer in _AROUND)
    chosen = float(pass_.ideal_s if end == "ideal" else getattr(pass_.time_s, end))
    return chosen, around * chosen / value


def _longest(times: Sequence[Quantity]) -> Quantity:
    longest: Quantity = 0.0
    for seconds in times:
        longest = maximum(longest, seconds)
    return longest


def _badness(ring: Ring) -> tuple[float, float]:
    """What to make least: first what cannot be held at all, then time."""
    return float(total(ring.lacking_bytes)), float(ring.token_s)


def _split(ring: Callable[[Sequence[int]], Ring], devices: int, layers: int, least: int) -> list[int]:
    """Return the layers of each device's window."""

    def badness(windows: Sequence[int]) -> tuple[float, float]:
        return _badness(ring(windows))

    windows = [least] * devices
    for _ in range(layers - least * devices):
        windows = min((_moved(windows, to, 1) for to in range(devices)), key=badness)
    while True:
        better = min(_moves(windows, least), key=badness, default=windows)
        if badness(better) >= badness(windows):
            return windows
        windows = better


def _moves(windows: Sequence[int], least: int) -> Iterator[list[int]]:
    """Yield windows with 1, 2, 4 ... or all layers that one device can spare given to another."""
    for start, held in enumerate(windows):
        spare = held - least
        counts = {spare, *(2**power for power in range(spare.bit_length()))} - {0}
        for to in range(len(windows)):
            if to != start:
                yield from (_moved(_moved(windows, start, -count), to, count) for count in counts)


def _moved(windows: Sequence[int], to: int, count: int) -> list[int]:
    moved = list(windows)
    moved[to] += count
    return moved
