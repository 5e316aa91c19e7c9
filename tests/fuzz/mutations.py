"""Mutations of good files: single bytes, whole pieces, and the structure of JSON, of NIfTI headers and of lines."""

from __future__ import annotations

import copy
import gzip
import json
import random
import struct

__all__ = ["of_bytes", "of_json", "of_nifti", "of_lines", "json_bytes"]

STRANGE = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    10**12,
    10**30,
    10**400,
    "",
    " ",
    "1H",
    "12.5",
    "text\nof two lines",
    "\x00",
    "\ud800",
    "../../x",
    "\u00b5\u6570",
    [],
    {},
    [[]],
    [None],
    [1, "x"],
    [float("nan")],
    [0, 0],
    [1, 2, 3],
    ["1H", "31P"],
    [True, True, True],
    [[1, 2], [3]],
    {"Value": 1},
    {"Value": [], "Description": 3},
    {"start": 0, "increment": "x"},
    {"uniform": [2, 1]},
    {"normal": [1, -1]},
    {"lognormal": ["a", 1]},
    {"": ""},
)
_NUMBERS = (b"0", b"-1", b"1e999", b"nan", b"inf", b"-inf", b"1e-320", b"99999999999", b"0x10", b"1.5.2", b"1-301", b"")
_WHOLE_NUMBERS = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, -32768, 2**31 - 1, -(2**31))
_REALS = (0.0, -0.0, 1.0, -1.0, 1e-40, 1e38, float("inf"), float("nan"), 348.0, 352.0, 1e9)


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to eight places changed, cut out, doubled, moved or made longer."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        place, kind = rng.randrange(len(data) + 1), rng.randrange(8)
        if kind == 0:
            del data[place:]
        elif kind == 1:
            del data[place : place + rng.choice((1, 2, 16, 300))]
        elif kind == 2:
            data[place:place] = rng.randbytes(rng.choice((1, 2, 16, 300)))
        elif kind == 3:
            other = rng.randrange(len(data) + 1)
            data[place:place] = data[other : other + rng.choice((1, 8, 64, 1024))]
        elif kind == 4:
            data[place : place + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
        elif place < len(data):
            data[place] = rng.randrange(256) if kind < 7 else data[place] ^ 1 << rng.randrange(8)
    return bytes(data)


def json_bytes(content) -> bytes:
    """Return JSON as Python writes it, which has NaN and halves of surrogates where these are in the content."""
    return json.dumps(content).encode()


def of_json(content, rng: random.Random) -> bytes:
    """Return a JSON text with one to three places of the content removed, replaced, renamed, nested or doubled."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = _one_change(content, rng)
    text = json_bytes(content)
    if rng.random() < 0.02:
        deep = rng.choice((200, 20_000))
        text = b"[" * deep + text + b"]" * deep
    return of_bytes(text, rng) if rng.random() < 0.1 else text


def _one_change(content, rng: random.Random):
    holder, key, place = None, None, content
    # Branches that are deep or long are no likelier than others.
    while isinstance(place, (dict, list)) and place and (holder is None or rng.random() < 0.6):
        holder, key = place, rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        place = holder[key]
    if holder is None or rng.random() < 0.01:
        return copy.deepcopy(rng.choice(STRANGE))
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = [place] if rng.random() < 0.5 else {"Value": place}
    elif kind == 2 and isinstance(holder, dict):
        holder[rng.choice((key.upper(), key + "_", "", "dim_5", "dim_6_header", "Value"))] = holder.pop(key)
    elif kind == 3 and isinstance(place, list):
        holder[key] = place * 2 if rng.random() < 0.5 else place[: len(place) // 2]
    elif kind == 4 and isinstance(place, (int, float)):
        try:
            holder[key] = rng.choice((-place, place * 1e6, place * 1e-6, int(place), str(place), place * 10**20))
        except (OverflowError, ValueError):
            holder[key] = 0
    else:
        holder[key] = copy.deepcopy(rng.choice(STRANGE))
    return content


# Fields of a NIfTI-1 header: offset and struct's letter.
_FIELDS = [(0, "i"), (39, "B"), *((40 + 2 * i, "h") for i in range(8)), (68, "h"), (70, "h"), (72, "h")]
_FIELDS += [*((76 + 4 * i, "f") for i in range(8)), (108, "f"), (112, "f"), (116, "f"), (123, "B"), (252, "h")]
_FIELDS += [(254, "h"), *((256 + 4 * i, "f") for i in range(18)), (328, "i"), (344, "i"), (348, "i"), (352, "i")]
_EXTENSION_BEGINS = 352


def of_nifti(content: bytes, rng: random.Random) -> bytes:
    """Return an uncompressed NIfTI file with fields of its header, its JSON extension, or any bytes changed."""
    if content[:4] != struct.pack("<i", 348):  # NIfTI-2
        return of_bytes(content[:1000], rng) + content[1000:]
    kind = rng.random()
    if kind < 0.3:
        return of_bytes(content[:1000], rng) + content[1000:]
    if kind < 0.4:
        return of_bytes(content, rng)
    if kind < 0.7 or content[348] == 0:
        data = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 3))):
            place, letter = rng.choice(_FIELDS)
            value = rng.choice(_REALS if letter == "f" else _WHOLE_NUMBERS)
            size = struct.calcsize(letter)
            data[place : place + size] = (
                struct.pack("<f", value) if letter == "f" else (value % 256**size).to_bytes(size, "little")
            )
        return bytes(data)
    size = int.from_bytes(content[352:356], "little")
    extension = json.loads(content[_EXTENSION_BEGINS + 8 : _EXTENSION_BEGINS + size].rstrip(b"\0 \n"))
    return with_extension(content, of_json(extension, rng))


def with_extension(content: bytes, text: bytes) -> bytes:
    """Return an uncompressed NIfTI-1 file with another text as its first extension."""
    size = int.from_bytes(content[352:356], "little")
    begins = int(struct.unpack("<f", content[108:112])[0])
    text += b"\0" * (-(len(text) + 8) % 16)
    header = bytearray(content[:_EXTENSION_BEGINS])
    header[108:112] = struct.pack("<f", begins + len(text) + 8 - size)
    parts = ((len(text) + 8).to_bytes(4, "little"), content[356:360], text, content[_EXTENSION_BEGINS + size :])
    return bytes(header) + b"".join(parts)


def compressed(content: bytes, rng: random.Random) -> bytes:
    """Return gzip's form of bytes, now and then with bytes of it changed."""
    packed = gzip.compress(content, 1)
    return of_bytes(packed, rng) if rng.random() < 0.1 else packed


def of_lines(content: bytes, rng: random.Random) -> bytes:
    """Return a text with lines removed, doubled, joined or exchanged, words replaced, or any bytes changed."""
    if rng.random() < 0.3:
        return of_bytes(content, rng)
    lines = content.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, kind = rng.randrange(len(lines)), rng.randrange(6)
        # Half of the changes in the first lines, which hold the settings.
        place = place if rng.random() < 0.5 else place % 30
        if kind == 0 and len(lines) > 1:
            del lines[place]
        elif kind == 1:
            lines.insert(place, lines[rng.randrange(len(lines))])
        elif kind == 2:
            other = rng.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        elif kind == 3:
            lines[place] += lines.pop(place + 1) if place + 1 < len(lines) else b"="
        else:
            words = lines[place].split(b" ")
            word = rng.randrange(len(words))
            words[word] = rng.choice((*_NUMBERS, b"$END", b"&", b"'", b'"', b"=", b"!", b"(", b"$BASIS", b"x" * 3000))
            lines[place] = b" ".join(words)
    return b"\n".join(lines)
