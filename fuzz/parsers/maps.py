# SPDX-License-Identifier: Apache-2.0
"""probe.mappings.parse_maps: /proc/self/maps, in which paths are other people's text."""

from __future__ import annotations

from fuzz.harness import refused_or_read, require
from weighmaster.probe.mappings import parse_maps

SEEDS = ()
INPUTS = (
    (
        b"7f00-7f10 r-xp 00000000 fe:01 42                         /usr/lib/libm.so.6\n"
        b"7f10-7f20 rw-p 00000000 00:00 0                          [stack]\n"
        b"7f20-7f30 rwxs 00000000 00:05 43                         /memfd:x (deleted)\n"
        b"7f30-7f40 r-xp 00000000 fe:01 44                         /a\\012b c (deleted)\n"
    ),
    b"7f40-7f50 r-xp 0 0:0 0\n\n7f50-7f60 --xp 0 ff:ff 9 /\xff\n",
    b"7f40-7f50 r-xp 0 0:1 1 /a\n7f50-7f60 r-xp 0 0:1 1 /a (deleted)\n",
    b"7f40-7f50 rwxp 0 0:1 1 /a\n7f50-7f60 r-xp 0 0:1 1 /a (deleted)\n",
    b"7f40-7f50 r-xp 0 ffffffffff:1 1 /a\n",
    b"r-xp 0 0:0 1 1 /a\n",
)


def one(data: bytes) -> None:
    """Executable files in order, each once; a line that the kernel does not write is a ValueError."""
    text = data.decode("utf-8", "surrogateescape")
    files = refused_or_read(data, lambda _: parse_maps(text), (ValueError,)) or ()
    require(len(set(files)) == len(files), "a file twice")  # but one that was deleted and linked again is two
    require(all(not file.fixed or file.path.startswith("/") for file in files), "a path that is none is believed")
