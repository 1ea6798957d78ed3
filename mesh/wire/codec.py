"""Messages to frames and back. A frame is a 4-byte big-endian length and that many bytes of msgpack.

The payload is a map with the key `type` and the message's fields. Decoding is strict: no extension types, bounded
depth and counts, and no value is turned into another type (law 21).
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Any, Final, get_args

import cattrs
import msgpack
from attrs import fields
from cattrs import ClassValidationError, transform_error

from mesh.wire.errors import FrameTooLarge, MessageMalformed
from mesh.wire.messages import Message, Snapshot, Unknown

MAX_FRAME_TO_CONTROL_PLANE: Final = 256 * 1024  # a CSR is 1 KiB; 4,096 destinations fit
MAX_FRAME_TO_SIDECAR: Final = 32 * 1024 * 1024  # a snapshot of ten thousand policies is under 10 MiB
MAX_DEPTH: Final = 16  # a policy document is eight deep
MAX_ITEMS: Final = 200_000

_LENGTH = struct.Struct(">I")
_TYPES: Final[dict[str, type[Message]]] = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    """One whole frame, length prefix included."""
    payload: bytes = msgpack.packb({"type": type(message).__name__, **_converter.unstructure(message)})
    return _LENGTH.pack(len(payload)) + payload


def decode(payload: bytes) -> Message | Unknown:
    """The message in one frame's payload. Raises MessageMalformed, naming the field that is wrong."""
    plain = _unpack(payload)
    if not isinstance(plain, dict) or not isinstance(kind := plain.pop("type", None), str):
        raise MessageMalformed("a message is a map with a `type`")
    if kind not in _TYPES:
        return Unknown(kind[:80])
    try:
        return _converter.structure(plain, _TYPES[kind])
    except ClassValidationError as error:
        raise MessageMalformed(f"{kind}: " + "; ".join(transform_error(error, path=kind)[:10])) from None
    except (ValueError, TypeError) as error:
        raise MessageMalformed(f"{kind}: {error}") from None


def snapshot_hash(snapshot: Snapshot) -> str:
    """SHA-256 (hex) over what the snapshot says, leaving out where and when it was said."""
    content = _converter.unstructure(snapshot)
    for key in ("epoch", "number", "hash"):
        del content[key]
    return hashlib.sha256(msgpack.packb(content)).hexdigest()


class FrameDecoder:
    """Cuts a byte stream into payloads, however it was split. `limit` bounds one payload in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what arrived and yield each payload that is now whole. Raises FrameTooLarge."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > self._limit:
                raise FrameTooLarge(f"a frame of {length} bytes is over the limit of {self._limit}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield payload

    @property
    def idle(self) -> bool:
        """True where no frame is half received: the peer may end the stream here."""
        return not self._buffer


def _unpack(payload: bytes) -> object:
    try:
        plain = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            max_ext_len=0,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            ext_hook=_refuse_extension,
        )
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise MessageMalformed(f"not msgpack: {error}") from None
    _check_depth(plain)
    return plain


def _refuse_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code} is not allowed")


def _check_depth(plain: object) -> None:
    level = [plain]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    raise MessageMalformed(f"nested more than {MAX_DEPTH} deep")


def _strict(kind: type) -> Any:
    def structure(value: object, _: type) -> object:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return structure


def _optional_text(value: object, _: type) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected str or nothing, got {type(value).__name__}")
    return value


def _strict_tuple(kind: Any, converter: cattrs.Converter) -> Any:
    item = get_args(kind)[0]

    def structure(value: object, _: type) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise TypeError(f"expected list, got {type(value).__name__}")
        return tuple(converter.structure(each, item) for each in value)

    return structure


def _build_converter() -> cattrs.Converter:
    converter = cattrs.Converter(prefer_attrib_converters=True)
    for kind in (int, str, bytes):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook_func(lambda kind: kind == str | None, _optional_text)
    converter.register_structure_hook_func(lambda kind: kind == dict[str, Any], _strict(dict))
    for message in _TYPES.values():
        for attribute in fields(message):
            if str(attribute.type).startswith("tuple["):
                kind = attribute.type
                converter.register_structure_hook_func(
                    lambda wanted, kind=kind: wanted == kind,  # type: ignore[misc]  # mypy cannot infer a lambda's default
                    _strict_tuple(kind, converter),
                )
    return converter


_converter = _build_converter()
