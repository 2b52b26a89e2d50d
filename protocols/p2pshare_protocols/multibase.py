"""Base58btc and the multibase forms in which CIDs and keys are written as text: base58btc, base32, base36, base16.

Source: github.com/multiformats/multibase. All texts from outside are at most MAX_TEXT characters long, which also
bounds the quadratic cost of base58 and base36.
"""

from __future__ import annotations

import base64
import binascii

from p2pshare_protocols.errors import RemoteProtocolError

MAX_TEXT = 256
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE58_VALUES = {c: i for i, c in enumerate(_BASE58)}
_BASE36_VALUES = {c: i for i, c in enumerate(_BASE36)}


def _encode_radix(data: bytes, alphabet: str) -> str:
    number = int.from_bytes(data, "big")
    radix = len(alphabet)
    out: list[str] = []
    while number:
        number, digit = divmod(number, radix)
        out.append(alphabet[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return alphabet[0] * zeros + "".join(reversed(out))


def _decode_radix(text: str, values: dict[str, int], zero: str, what: str) -> bytes:
    if len(text) > MAX_TEXT:
        raise RemoteProtocolError(f"a {what} text is longer than {MAX_TEXT} characters")
    radix = len(values)
    number = 0
    for character in text:
        value = values.get(character)
        if value is None:
            raise RemoteProtocolError(f"a {what} text has a character that is not {what}")
        number = number * radix + value
    zeros = len(text) - len(text.lstrip(zero))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def base58_encode(data: bytes) -> str:
    return _encode_radix(data, _BASE58)


def base58_decode(text: str) -> bytes:
    """Raises RemoteProtocolError for a foreign character or a text over MAX_TEXT."""
    return _decode_radix(text, _BASE58_VALUES, "1", "base58")


def base32_encode(data: bytes) -> str:
    """RFC 4648 base32, lower case, without padding."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def base32_decode(text: str) -> bytes:
    """RFC 4648 base32 of one case, unpadded, with zero spare bits. Raises RemoteProtocolError."""
    if len(text) > MAX_TEXT:
        raise RemoteProtocolError(f"a base32 text is longer than {MAX_TEXT} characters")
    if not text.isascii() or text not in (text.lower(), text.upper()) or "=" in text:
        raise RemoteProtocolError("a base32 text has a character that is not base32")
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error:
        raise RemoteProtocolError("a base32 text is not base32") from None
    if base32_encode(data) != text.lower():
        raise RemoteProtocolError("a base32 text has spare bits that are not zero")
    return data


def decode(text: str) -> bytes:
    """Bytes of a multibase text: prefixes z (base58btc), b or B (base32), k or K (base36), f or F (base16)."""
    if not text:
        raise RemoteProtocolError("a multibase text is empty")
    if len(text) > MAX_TEXT:
        raise RemoteProtocolError(f"a multibase text is longer than {MAX_TEXT} characters")
    prefix, body = text[0], text[1:]
    if prefix == "z":
        return base58_decode(body)
    if (prefix == "b" and body == body.lower()) or (prefix == "B" and body == body.upper()):
        return base32_decode(body)
    if (prefix == "k" and body == body.lower()) or (prefix == "K" and body == body.upper()):
        return _decode_radix(body.lower(), _BASE36_VALUES, "0", "base36")
    if prefix in "fF":
        try:
            return binascii.unhexlify(body)
        except (binascii.Error, ValueError):
            raise RemoteProtocolError("a base16 text is not base16") from None
    raise RemoteProtocolError("a multibase text has a prefix that we do not know")
