"""The abort that gives no complete answer: the connection closes (HTTP/1.1), or the stream resets (HTTP/2).

None of Envoy's filters does that. So the fault filter answers with a status that stands for it, END_STATUS,
the listener marks that answer with a header, and a WebAssembly module of some 200 bytes resets the stream
when it sees the mark. Only the mark is looked at, so an app or another abort may answer with that status. The
module is made for the calls of a rule that needs it, and nothing is loaded before (then it costs some 15 MB).
"""

from typing import Any

from envoy.extensions.filters.http.wasm.v3 import wasm_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.sidecar.envoy.messages import END_HEADER, packed

END_STATUS = 599

_I32, _FUNCTION, _MEMORY = 0x7F, 0, 2
_RESPONSE_HEADERS, _RESPONSE_STREAM, _STOP = 2, 1, 1
_KEY_AT, _VALUE_AT, _SIZE_AT, _BUFFER_AT = 0, 64, 68, 1024


def closing_filter() -> AnyMessage:
    """The filter that resets a stream whose answer has the mark."""
    config: dict[str, Any] = {
        "name": "end",
        "root_id": "end",
        "vm_config": {
            "vm_id": "end",
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"inline_bytes": module()}},
        },
    }
    return packed(wasm_pb2.Wasm(config=config))


def module() -> bytes:
    """The module, by the proxy-wasm ABI 0.2.1.

    ``proxy_on_response_headers`` asks for the header; if it is there, it closes the stream.
    """
    key = END_HEADER.encode()
    types = [
        _type(1, 1),  # 0: proxy_close_stream, malloc
        _type(5, 1),  # 1: proxy_get_header_map_value
        _type(0, 0),  # 2: the mark of the ABI
        _type(3, 1),  # 3: proxy_on_response_headers
    ]
    imports = [_import("proxy_get_header_map_value", 1), _import("proxy_close_stream", 0)]
    exports = [
        _export("memory", _MEMORY, 0),
        _export("proxy_abi_version_0_2_1", _FUNCTION, 2),
        _export("malloc", _FUNCTION, 3),
        _export("proxy_on_response_headers", _FUNCTION, 4),
    ]
    asked = [_RESPONSE_HEADERS, _KEY_AT, len(key), _VALUE_AT, _SIZE_AT]
    on_headers = b"".join(map(_const, asked))
    on_headers += b"\x10\x00\x04\x7f" + _const(0)  # call 0; not found: go on
    on_headers += b"\x05" + _const(_RESPONSE_STREAM) + b"\x10\x01\x1a" + _const(_STOP) + b"\x0b"  # else close
    bodies = [b"", _const(_BUFFER_AT), on_headers]
    data = b"\x00" + _const(_KEY_AT) + b"\x0b" + _text(key)
    return b"\0asm\x01\0\0\0" + b"".join(
        (
            _section(1, types),
            _section(2, imports),
            _section(3, [b"\x02", b"\x00", b"\x03"]),
            _section(5, [b"\x00\x01"]),
            _section(7, exports),
            _section(10, [_text(b"\x00" + body + b"\x0b") for body in bodies]),
            _section(11, [data]),
        )
    )


def _type(parameters: int, results: int) -> bytes:
    return bytes([0x60, parameters, *[_I32] * parameters, results, *[_I32] * results])


def _import(name: str, kind: int) -> bytes:
    return _text(b"env") + _text(name.encode()) + bytes([_FUNCTION, kind])


def _export(name: str, kind: int, index: int) -> bytes:
    return _text(name.encode()) + bytes([kind, index])


def _section(number: int, items: list[bytes]) -> bytes:
    return bytes([number]) + _text(_number(len(items)) + b"".join(items))


def _text(content: bytes) -> bytes:
    return _number(len(content)) + content


def _number(value: int) -> bytes:
    """LEB128, unsigned."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _const(value: int) -> bytes:
    """``i32.const``; LEB128, signed, for values that are not negative."""
    out = bytearray()
    while value > 63:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([0x41, *out, value])
