"""Messages to frames and back. A frame is a 4-byte big-endian length and that many bytes of msgpack.

The payload is a map with the key `type` and the message's fields. Decoding is strict: no extension types, bounded
depth and counts, and no value is turned into another type (law 21).
"""

import hashlib
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, get_args

import cattrs
import msgpack
from attrs import fields, has
from cattrs import AttributeValidationNote, BaseValidationError, IterableValidationError, IterableValidationNote

from mesh.wire.errors import FrameTooLarge, MessageMalformed
from mesh.wire.messages import Message, Service, Snapshot, Unknown

MAX_FRAME_TO_CONTROL_PLANE: Final = 256 * 1024  # a CSR is 1 KiB; 4,096 destinations fit
MAX_FRAME_TO_SIDECAR: Final = 32 * 1024 * 1024  # a snapshot of ten thousand policies is under 10 MiB
MAX_DEPTH: Final = 16  # a policy document is eight deep
MAX_ITEMS: Final = 200_000
MAX_FAULTS: Final = 10  # faults that one refusal lists

_LENGTH = struct.Struct(">I")
_NOT_CONTENT: Final = {"epoch", "number", "hash"}
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
        message = _converter.structure(plain, _TYPES[kind])
    except (BaseValidationError, ValueError, TypeError) as error:
        raise MessageMalformed("; ".join(islice(_faults(error, kind), MAX_FAULTS))) from None
    if isinstance(message, Snapshot):
        object.__setattr__(message, "received_hash", _content_hash(plain))  # frozen, and no argument: evolve drops it
    return message


def snapshot_hash(snapshot: Snapshot) -> str:
    """SHA-256 (hex) over what the snapshot says, leaving out where and when it was said."""
    return _content_hash(_converter.unstructure(snapshot))


def is_intact(snapshot: Snapshot) -> bool:
    """Whether the content is what `snapshot.hash` was made of: all that came over the wire, where it did.

    A newer control plane sends fields that are not known here, and an older one leaves some out; either way the hash
    is of what was sent.
    """
    return snapshot.hash == (snapshot.received_hash or snapshot_hash(snapshot))


def _content_hash(plain: dict[str, Any]) -> str:
    content = {key: value for key, value in plain.items() if key not in _NOT_CONTENT}
    return hashlib.sha256(msgpack.packb(content)).hexdigest()


class FrameDecoder:
    """Cuts a byte stream into payloads, however it was split. `limit` bounds one payload in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what arrived and yield each payload that is now whole. The iterator raises FrameTooLarge."""
        self._buffer += data
        return self._payloads()

    def _payloads(self) -> Iterator[bytes]:
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
        _walk(payload)
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
        raise MessageMalformed(f"not msgpack: {str(error) or type(error).__name__}") from None
    _check_depth(plain)
    return plain


def _walk(payload: bytes) -> None:
    """Read through `payload` and build nothing. Raises OutOfData where a list or map says it holds more than is there.

    Without this a few bytes promise thousands of nested lists of MAX_ITEMS each, and all of them are made.
    """
    reader = msgpack.Unpacker(max_buffer_size=len(payload) or 1)
    reader.feed(payload)
    reader.skip()


def _refuse_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code} is not allowed")


def _check_depth(plain: object) -> None:
    level = [plain]
    for _ in range(MAX_DEPTH):
        inside = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list)))
        level = [each for values in inside for each in values if isinstance(each, (dict, list))]
        if not level:
            return
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


def _place(value: object, _: type) -> tuple[str, int]:
    match value:
        case [str(address), int(port)] if type(port) is int:
            return address, port
    raise TypeError("expected a list of address and port")


def _strict_tuple(kind: Any, converter: cattrs.Converter) -> Any:
    item = get_args(kind)[0]

    def structure(value: object, _: type) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise TypeError(f"expected list, got {type(value).__name__}")
        made, errors = [], []
        for index, each in enumerate(value):
            try:
                if has(item) and not isinstance(each, dict):
                    raise TypeError(f"expected dict, got {type(each).__name__}")
                made.append(converter.structure(each, item))
            except (BaseValidationError, ValueError, TypeError) as error:
                error.add_note(IterableValidationNote(f"[{index}]", index, item))
                errors.append(error)
                if len(errors) == MAX_FAULTS:
                    break
        if errors:
            raise IterableValidationError("items", errors, tuple)
        return tuple(made)

    return structure


def _faults(error: Exception, path: str) -> Iterator[str]:
    """Every fault inside what cattrs raised, with the path of the field where it is."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _faults(inner, path + _step(inner))
    elif isinstance(error, KeyError):
        yield f"{path}.{str(error.args[0])[:80]} is missing"
    else:
        yield f"{path}: {str(error.args[0] if error.args else error)[:200]}"


def _step(error: Exception) -> str:
    """What leads from a value to the part of it that `error` is about, as cattrs noted it."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote) and not isinstance(error, KeyError):
            return f".{note.name}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""


def _build_converter() -> cattrs.Converter:
    converter = cattrs.Converter(prefer_attrib_converters=True)
    for kind in (int, str, bytes, bool):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook_func(lambda kind: kind == str | None, _optional_text)
    converter.register_structure_hook_func(lambda kind: kind == dict[str, Any], _strict(dict))
    converter.register_structure_hook_func(lambda kind: kind == tuple[str, int], _place)
    for message in (*_TYPES.values(), Service):
        for attribute in fields(message):
            if str(attribute.type).startswith("tuple["):
                kind = attribute.type
                converter.register_structure_hook_func(
                    lambda wanted, kind=kind: wanted == kind,  # type: ignore[misc]  # mypy cannot infer a lambda's default
                    _strict_tuple(kind, converter),
                )
    return converter


_converter = _build_converter()
