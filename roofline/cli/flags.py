"""MODEL, HARDWARE and one option per field of `Settings`, for every command that wants a scenario."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.errors import InvalidSpecError

if TYPE_CHECKING:
    from roofline.scenario import Scenario
    from roofline.settings import Settings

__all__ = ["FLAGS", "Flag", "Given", "assignments", "takes_settings"]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """The option of one field of `Settings`.

    Parameters
    ----------
    names : tuple of str
        Option names, the field's own first.
    kind : type
        What one value is read as.
    metavar : str
        What help shows for the value; empty for a switch.
    """

    names: tuple[str, ...]
    kind: type = float
    metavar: str = "N"
    help: str


def _number(name: str, help: str, *names: str) -> Flag:
    return Flag(names=(f"--{name.replace('_', '-')}", *names), help=help)


def _text(name: str, metavar: str, help: str) -> Flag:
    return Flag(names=(f"--{name.replace('_', '-')}",), kind=str, metavar=metavar, help=help)


def _format(name: str, help: str) -> Flag:
    return Flag(names=(f"--{name}",), kind=str, metavar="FORMAT", help=help)


#: By field of `Settings`, in the order help shows them; `model` and `hardware` are arguments.
FLAGS: Final[dict[str, Flag]] = {
    "devices": _number("devices", "Devices; tensor parallel over all unless degrees are given.", "-n"),
    "batch": _number("batch", "Requests that run together. [default: 1]", "-b"),
    "prompt": _number("prompt", "Tokens of each prompt. [default: 1024]", "-p"),
    "output": _number("output", "Tokens generated for each sequence. [default: 128]"),
    "context": _number("context", "Decode at this many cached tokens instead of after a prompt."),
    "samples": _number("samples", "Sequences generated from each prompt. [default: 1]"),
    "prefix": _number("prefix", "Tokens before the prompt that are cached already. [default: 0]"),
    "prefix_shared_by": _number("prefix_shared_by", "Requests that share that prefix. [default: 1]"),
    "images": _number("images", "Images in each prompt. [default: 0]"),
    "image_size": _text("image_size", "WIDTHxHEIGHT", "Pixels of each image. [default: 1024x1024]"),
    "chunk": _number("chunk", "Prompt tokens per prefill pass at most. [default: all in one]"),
    "weights": _format("weights", "Weight format, e.g. bf16, fp8, int4, q4_k_m. [default: the checkpoint's]"),
    "activations": _format("activations", "Format of the inputs of matrix products."),
    "kv": _format("kv", "KV-cache format."),
    "kv_alloc": _text(
        "kv_alloc", "POLICY", "Cache memory: growth, paged:BLOCK or max:TOKENS a sequence. [default: growth]"
    ),
    "format_rule": Flag(
        names=("--format-rule",), kind=list[str], metavar="PATTERN=FORMAT",
        help="Format of the weights a pattern matches, e.g. '*.feed_forward.*=fp8' or '0-3.*=bf16'; may be "
        "repeated, the first match holds.",
    ),
    "tensor": _number("tensor", "Degree of tensor parallelism."),
    "pipeline": _number("pipeline", "Degree of pipeline parallelism."),
    "data": _number("data", "Degree of data parallelism of attention and dense layers."),
    "expert": _number("expert", "Degree of expert parallelism."),
    "software": Flag(
        names=("--software",), kind=str, metavar="NAME",
        help="Runtime profile; 'datasheet' for the ideal bound.",
    ),
    "flash": Flag(
        names=("--flash/--no-flash",), kind=bool, metavar="",
        help="Whether attention is fused. [default: as the software has it]",
    ),
    "speculate": Flag(
        names=("--speculate",), kind=str, metavar="TREE",
        help="Draft tree: chain:5, tree:4,2,2, dynamic:6,10,60, parents:..., choices:FILE.json.",
    ),
    "accept": Flag(
        names=("--accept",), kind=str, metavar="RATES",
        help="Acceptance: 0.8, by depth 0.8,0.6,0.4, rank:0.6,0.1, heads:a,b;c,d, retry:0.7, tokens:3.6, "
        "curve:FILE.",
    ),
    "draft": Flag(
        names=("--draft",), kind=str, metavar="NAME",
        help="Draft model, or lookup, medusa:5, hydra:4, eagle, eagle3:32000, block:4, mtp, self:8, "
        "short:8192. [default: lookup]",
    ),
    "draft_weights": Flag(
        names=("--draft-weights",), kind=str, metavar="FORMAT", help="Weight format of a draft model."
    ),
    "draft_tensor": _number("draft_tensor", "Tensor parallelism of the drafter. [default: the target's]"),
    "draft_host": Flag(
        names=("--draft-host",), kind=str, metavar="TIME",
        help="Host time of a draft call beyond the runtime's own, e.g. '0.5 ms'.",
    ),
    "technique": Flag(
        names=("--technique",), kind=list[str], metavar="NAME[:KEY=VALUE,...]",
        help="A published technique, e.g. gemfilter or quest:tokens=1024; may be repeated.",
    ),
    "memory_limit": _text("memory_limit", "SIZE", "Most of the near memory that may be used, e.g. '8 GiB'."),
    "offload": _text("offload", "TIER", "Where what does not fit goes: host, or storage (flash)."),
    "offload_mode": _text(
        "offload_mode",
        "MODE",
        "stream, cache, compute (on the host), choose (either), mmap. [default: cache with experts]",
    ),
    "n_gpu_layers": _number("n_gpu_layers", "Layers the device computes; the host computes the others."),
    "experts_on_cpu": _number("experts_on_cpu", "Layers whose experts the host keeps and computes."),
    "cache_experts": _number("cache_experts", "Expert slots of each layer. [default: what fits]"),
    "cache_policy": _text("cache_policy", "NAME", "lru, lfu or static. [default: lru]"),
    "hit_rate": _number("hit_rate", "Share of the touched experts that the cache serves, as measured."),
    "reuse": _number("reuse", "Share of experts the pass before touched too. [default: 0.2]"),
    "prefetch_waste": _number(
        "prefetch_waste", "Experts fetched for nothing, over those that --prefetch has in time."
    ),
    "prefetch": _number("prefetch", "Share of fetched bytes that were asked for in time, 0..1."),
    "routing": _text("routing", "KIND", "uniform (default), zipf:SKEW, correlated:SHARE or trace:FILE."),
    "kv_offload": _text("kv_offload", "WHERE", "KV cache in host memory: host fetches it, cpu attends."),
    "engine": _text("engine", "NAMES", "Engine that computes, e.g. npu, cpu+npu or cpu:0.4+npu:0.6."),
    "prefill_engine": _text("prefill_engine", "NAMES", "Engine of the prefill. [default: as --engine]"),
    "overlap": _text("overlap", "HOW", "full, serial, or the pieces a layer is cut into. [default: full]"),
    "link": _text("link", "NAME", "Link that joins the devices, e.g. wifi-6 or ethernet-1g."),
    "host": _text("host", "NAME", "Processor beside the devices. [default: the usual one, to offload]"),
    "storage": _text("storage", "NAME", "Storage behind the host or the device, e.g. nvme-gen4."),
    "io_block": _text("io_block", "SIZE", "Size of one read from storage, e.g. '64 KiB'."),
    "io_depth": _number("io_depth", "Reads from storage in flight."),
    "host_software": _text(
        "host_software", "NAME", "Profile of the host's processor, e.g. kt-kernel. [default: its own]"
    ),
    "set": Flag(
        names=("--set",), kind=list[str], metavar="KEY=VALUE",
        help="Any other figure by its path, e.g. memory.hbm.bandwidth='4.8 TB/s'; may be repeated.",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user gave: a settings document, on top of a scenario file where there is one.

    Parameters
    ----------
    file : str or None
        The scenario file in place of MODEL and HARDWARE.
    document : mapping of str to object
        The keys of `Settings` that were given as arguments and options.
    """

    file: str | None
    document: Mapping[str, Any]

    def settings(self) -> "Settings":
        """Return the settings; raise `RooflineError` where they are impossible or contradictory."""
        if self.file is None:
            from roofline.settings import settings_of

            return settings_of(self.document)
        from roofline.scenario_file import read_settings

        return read_settings(self.file, self.document)

    def scenario(self) -> "Scenario":
        """Return the scenario; raise `RooflineError` where it is impossible or contradictory."""
        if self.file is None:
            return self.settings().scenario()
        from roofline.scenario_file import read_scenario

        return read_scenario(self.file, self.document)

    def shown(self) -> Mapping[str, Any]:
        """Return the keys that were set, those of a settings file included, as an answer repeats them."""
        if self.file is None:
            return self.document
        from roofline.scenario_file import merged

        document = merged(self.file, self.document)
        return self.document if "deployment" in document else document


def assignments(texts: list[str] | None) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a mapping, the last of equal keys standing.

    Raises
    ------
    InvalidSpecError
        If a text has no key, no value or no equals sign.
    """
    found: dict[str, str] = {}
    for text in texts or []:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise InvalidSpecError(
                f"--set: want KEY=VALUE such as memory.hbm.bandwidth='4.8 TB/s', got {text!r}"
            )
        found[key] = value
    return found


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `given` by MODEL, HARDWARE and the options of `FLAGS`."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [*_arguments(), *_options(), *(part for part in own if part.name != "given")]

    def wrapped(**values: Any) -> None:
        model, hardware = values.pop("model"), values.pop("hardware")
        document = {name: values.pop(name) for name in FLAGS}
        command(given=_given(model, hardware, document), **values)

    wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
    wrapped.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in parameters]
    )
    wrapped.__annotations__ = {part.name: part.annotation for part in parameters}
    return wrapped


def _arguments() -> list[inspect.Parameter]:
    model = typer.Argument(
        metavar="MODEL", show_default=False, autocompletion=_names("models"),
        help="Catalogue name, config.json, .gguf or model .toml; or a scenario .toml, without HARDWARE.",
    )  # fmt: skip
    hardware = typer.Argument(
        metavar="HARDWARE", show_default=False, autocompletion=_names("devices", "systems"),
        help="Catalogue name of a device or system, or a .toml.",
    )  # fmt: skip
    return [
        _parameter("model", Annotated[str, model], inspect.Parameter.empty),
        _parameter("hardware", Annotated[str | None, hardware], None),
    ]


def _names(*sections: str) -> Callable[[str], list[str]]:
    """A function that completes catalogue names for the shell."""

    def complete(incomplete: str) -> list[str]:
        from roofline.catalog.files import names_in

        return [name for section in sections for name in names_in(section) if name.startswith(incomplete)]

    return complete


def _options() -> list[inspect.Parameter]:
    found = []
    for name, flag in FLAGS.items():
        option = typer.Option(*flag.names, metavar=flag.metavar or None, help=flag.help, show_default=False)
        found.append(_parameter(name, Annotated[flag.kind | None, option], None))
    return found


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _given(model: str, hardware: str | None, values: Mapping[str, Any]) -> Given:
    # An option that may be repeated reads as an empty list or tuple where it is not given.
    document = {
        name: value for name, value in values.items() if value not in (None, (), []) and name != "set"
    }
    figures = assignments(values["set"])
    if figures:
        document["set"] = figures
    if hardware is not None:
        return Given(file=None, document={"model": model, "hardware": hardware, **document})
    if not model.endswith((".toml", ".json")):
        raise InvalidSpecError(
            f"want MODEL and HARDWARE, or a scenario file ending in .toml, got only {model!r}"
        )
    return Given(file=model, document=document)
