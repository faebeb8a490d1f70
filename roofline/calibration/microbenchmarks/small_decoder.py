"""A decoder of transformers with random weights, timed on this machine and predicted for it."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from roofline.analysis import analyze
from roofline.calibration.microbenchmarks.machine import Machine, import_torch, wait_for
from roofline.errors import optional
from roofline.report import Report
from roofline.settings import Settings

__all__ = ["DECODER", "SmallDecoder", "predicted_report"]

#: A decoder whose 0.34 billion weights no cache holds, with shapes that calibration does not measure.
DECODER: Final[dict[str, Any]] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048,
    "intermediate_size": 5632, "num_hidden_layers": 6, "num_attention_heads": 16, "num_key_value_heads": 4,
    "head_dim": 128, "vocab_size": 16384, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "hidden_act": "silu",
}  # fmt: skip
_FEWEST_REPEATS: Final = 7
_MOST_REPEATS: Final = 60
_SECONDS: Final = 1.0


class SmallDecoder:
    """A decoder with random weights on the machine's engine.

    Raises
    ------
    MissingDependencyError
        If torch or transformers is not installed.
    """

    def __init__(self, machine: Machine, config: Mapping[str, Any]) -> None:
        self.torch, self.machine = import_torch(), machine
        with optional("a small decoder", extra="calibrate"):
            import transformers
        transformers.logging.set_verbosity_error()
        self.torch.manual_seed(0)
        settings = transformers.LlamaConfig(**{k: v for k, v in config.items() if k != "architectures"})
        settings._attn_implementation = "sdpa"
        model = transformers.LlamaForCausalLM(settings)
        self.model = model.to(self.torch.bfloat16).to(machine.kind).eval()
        self.cache_type = transformers.DynamicCache
        self.vocabulary = int(config["vocab_size"])

    def _tokens(self, batch: int, count: int) -> Any:
        return self.torch.randint(0, self.vocabulary, (batch, count), device=self.machine.kind)

    def _run(self, tokens: Any, cache: Any) -> Any:
        return self.model(
            input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).past_key_values

    def prefill_times(self, batch: int, prompt: int) -> list[float]:
        """Return times of a prompt [s]."""
        tokens = self._tokens(batch, prompt)
        return self._timed(lambda: self._run(tokens, self.cache_type()))

    def decode_times(self, batch: int, context: int) -> list[float]:
        """Return times of one more token after `context` cached ones [s]."""
        with self.torch.inference_mode():
            cache = self._run(self._tokens(batch, context), self.cache_type())
        token = self._tokens(batch, 1)

        def step() -> None:
            self._run(token, cache)
            cache.crop(-1)

        return self._timed(step)

    def _timed(self, call: Callable[[], Any]) -> list[float]:
        times: list[float] = []
        with self.torch.inference_mode():
            call()
            began = time.perf_counter()
            while len(times) < _FEWEST_REPEATS or (
                len(times) < _MOST_REPEATS and time.perf_counter() - began < _SECONDS
            ):
                wait_for(self.torch, self.machine.kind)
                start = time.perf_counter()
                call()
                wait_for(self.torch, self.machine.kind)
                times.append(time.perf_counter() - start)
        return times


def predicted_report(config: Mapping[str, Any], device: str, software: str, **workload: float) -> Report:
    """Return what `roofline analyze` says of a decoder, given its config.json."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        settings = Settings(model=str(path), hardware=device, software=software, **workload)  # type: ignore[arg-type]
        return analyze(settings.scenario())
