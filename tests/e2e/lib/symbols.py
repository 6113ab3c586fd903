# SPDX-License-Identifier: Apache-2.0
"""An ELF file that holds nothing but names of functions: what gdb needs for a kernel without debug data."""

import struct

SHT_SYMTAB, SHT_STRTAB, SHT_NOBITS = 2, 3, 8
ALLOC_EXEC = 6
GLOBAL_FUNCTION = 0x12
HEADER_BYTES, SECTION_BYTES, SYMBOL_BYTES = 64, 64, 24


def strings(names):
    """A string table and where each name is in it."""
    table, places = b"\0", {}
    for name in names:
        places[name] = len(table)
        table += name.encode() + b"\0"
    return table, places


def write_symbols(path, ranges):
    """`ranges` is {name: (first address, address behind it)}."""
    begin = min(first for first, _ in ranges.values())
    end = max(last for _, last in ranges.values())
    section_names, at = strings([".text", ".symtab", ".strtab", ".shstrtab"])
    names, places = strings(ranges)
    symbols = bytes(SYMBOL_BYTES) + b"".join(
        struct.pack("<IBBHQQ", places[name], GLOBAL_FUNCTION, 0, 1, first, last - first)
        for name, (first, last) in ranges.items())

    offset = HEADER_BYTES
    sections = bytes(SECTION_BYTES)
    content = b""

    def add(name, kind, data, address=0, size=None, flags=0, link=0, info=0, entry=0):
        nonlocal sections, content
        sections += struct.pack("<IIQQQQIIQQ", at[name], kind, flags, address,
                                offset + len(content), len(data) if size is None else size,
                                link, info, 8, entry)
        content += data + bytes(-len(data) % 8)

    add(".text", SHT_NOBITS, b"", address=begin, size=end - begin, flags=ALLOC_EXEC)
    add(".symtab", SHT_SYMTAB, symbols, link=3, info=1, entry=SYMBOL_BYTES)
    add(".strtab", SHT_STRTAB, names)
    add(".shstrtab", SHT_STRTAB, section_names)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    executable, x86_64 = 2, 62
    header = ident + struct.pack("<HHIQQQIHHHHHH", executable, x86_64, 1, begin, 0,
                                 offset + len(content), 0, HEADER_BYTES, 0, 0, SECTION_BYTES, 5, 4)
    with open(path, "wb") as f:
        f.write(header + content + sections)
