"""Scenarios as text and back, exactly: a TOML file, a JSON document, or the query of a URL."""

import base64
import json
import tomllib
import zlib
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, quote, urlencode

from roofline.errors import FileFormatError, nearest
from roofline.scenario import Scenario
from roofline.scenario_file import decode, encode
from roofline.settings import Settings, settings_of

__all__ = ["TextForm", "from_text", "to_text"]

TextForm = Literal["toml", "json", "url"]

#: Decompressed URL text at most [B]; the largest model written whole takes 4 % of it.
_MAX_URL_BYTES: Final = 2**20


def to_text(value: Scenario | Settings, form: TextForm) -> str:
    """Return a scenario or settings as the text of a TOML file, a JSON document or a URL's query.

    Settings become readable query keys; a whole scenario becomes one compressed value.
    """
    document = encode(value)
    if form == "toml":
        import tomli_w

        return tomli_w.dumps(document)
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    if isinstance(value, Settings):
        pairs = [(key, _query_text(part)) for key, part in document.items() if key != "set"]
        pairs += [(f"set.{key}", text) for key, text in document.get("set", {}).items()]
        return urlencode(pairs, quote_via=quote)
    packed = zlib.compress(json.dumps(document, separators=(",", ":"), allow_nan=False).encode(), 9)
    return urlencode({"scenario": base64.urlsafe_b64encode(packed).decode().rstrip("=")})


def _query_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def from_text(text: str, form: TextForm) -> Scenario | Settings:
    """Return what `to_text` wrote: settings where there are `model` and `hardware`, else a scenario.

    Raises
    ------
    RooflineError
        If the text is malformed or describes nothing possible.
    """
    return _from_document(_parsed(text, form), form)


def _parsed(text: str, form: TextForm) -> Any:
    try:
        if form == "toml":
            return tomllib.loads(text)
        if form == "json":
            return json.loads(text)
        return _from_query(text)
    except (ValueError, RecursionError, zlib.error) as error:
        raise FileFormatError(f"not valid {form.upper()} ({str(error).splitlines()[0]})") from error


def _from_query(text: str) -> dict[str, Any]:
    pairs = dict(parse_qsl(text.removeprefix("?"), keep_blank_values=True, max_num_fields=200))
    if set(pairs) == {"scenario"}:
        packed = pairs["scenario"]
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), _MAX_URL_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"longer than {_MAX_URL_BYTES} bytes")
        document: dict[str, Any] = json.loads(raw)
        return document
    figures = {key.removeprefix("set."): text for key, text in pairs.items() if key.startswith("set.")}
    known = {key: _query_value(key, text) for key, text in pairs.items() if not key.startswith("set.")}
    return {**known, "set": figures} if figures else known


def _query_value(key: str, text: str) -> Any:
    """A value as the field of `Settings` has it: text stays text, everything else is JSON."""
    hints = get_type_hints(Settings)
    hint = hints.get(key)
    if hint is None:
        raise FileFormatError(f"unknown key {key!r}{nearest(key, hints)}")
    is_text = hint is str or (get_origin(hint) is not tuple and str in get_args(hint))
    return text if is_text else json.loads(text)


def _from_document(document: Any, where: str) -> Scenario | Settings:
    if not isinstance(document, Mapping):
        raise FileFormatError(f"{where}: want a table of keys")
    return decode(document, where) if "deployment" in document else settings_of(document, where)
