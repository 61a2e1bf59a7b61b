"""Bech32 (BIP 173) without its length limit, as age.md encodes keys. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def bech32_encode(prefix: str, data: bytes) -> str:
    """The lower-case text of `data` under `prefix`."""
    values = _regroup(data, 8, 5)
    check = _polymod([*_expand(prefix), *values, 0, 0, 0, 0, 0, 0]) ^ 1
    values += [(check >> shift) & 31 for shift in range(25, -1, -5)]
    return prefix + "1" + "".join(_ALPHABET[value] for value in values)


def bech32_decode(prefix: str, text: str) -> bytes | None:
    """The bytes that `text` carries, or None unless it is well formed under `prefix`."""
    if text not in (text.lower(), text.upper()):
        return None
    found, _, rest = text.lower().rpartition("1")
    if found != prefix or len(rest) < 6 or not set(rest) <= set(_ALPHABET):
        return None
    values = [_ALPHABET.index(char) for char in rest]
    if _polymod([*_expand(prefix), *values]) != 1:
        return None
    data = bytes(_regroup(values[:-6], 5, 8)[: len(values[:-6]) * 5 // 8])
    # Padding must be short and zero: one text only for one key.
    return data if _regroup(data, 8, 5) == values[:-6] else None


def _expand(prefix: str) -> list[int]:
    return [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                check ^= term
    return check


def _regroup(values: Iterable[int], width: int, to: int) -> list[int]:
    """Cut a bit string into groups of another width, the last one padded with zeros."""
    acc = bits = 0
    out: list[int] = []
    for value in values:
        acc = acc << width | value
        bits += width
        while bits >= to:
            bits -= to
            out.append(acc >> bits)
            acc &= (1 << bits) - 1
    if bits:
        out.append(acc << to - bits)
    return out
