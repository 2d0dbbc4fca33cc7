"""The table of directives in a built nginx module, read as nginx will read it.

The module is an ELF file of a 64-bit little-endian machine. Pointers in its tables are filled in
when it is loaded; until then their values are in the relocations.
"""

import struct

# ngx_conf_file.h, ngx_http_config.h
TAKE = {0x1: 0, 0x2: 1, 0x4: 2, 0x8: 3, 0x10: 4}
FLAG, MORE, ANY = 0x200, 0x800, 0x400
CONTEXTS = {
    0x02000000: "http", 0x04000000: "server", 0x08000000: "location",
    0x40000000: "if in location", 0x80000000: "limit_except",
}
# ngx_module_t: the member commands; ngx_command_t.
COMMANDS_AT = 64
COMMAND = struct.Struct("<8s8sQ8s8s8s8s")


class Command:
    def __init__(self, name, kind):
        self.name = name
        self.contexts = {text for bit, text in CONTEXTS.items() if kind & bit}
        self.takes = {number for bit, number in TAKE.items() if kind & bit}
        if kind & FLAG:
            self.takes = "flag"
        if kind & MORE:
            self.takes = "any"
        # Any arguments: the directive is known here only to be refused with a reason.
        self.is_refused = bool(kind & ANY)


class Elf:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        assert self.data[:6] == b"\x7fELF\x02\x01", f"{path}: no 64-bit little-endian ELF"
        (at,) = struct.unpack_from("<Q", self.data, 40)
        size, count = struct.unpack_from("<HH", self.data, 58)
        # type, address, place in the file, size, linked section
        self.sections = [
            (each[1], each[3], each[4], each[5], each[6])
            for each in (struct.unpack_from("<IIQQQQIIQQ", self.data, at + n * size)
                         for n in range(count))
        ]
        self.pointers = {
            place: addend
            for place, info, addend in self.entries(4, "<QQq")  # SHT_RELA
            if info >> 32 == 0  # of no symbol: within the module
        }

    def entries(self, kind, layout):
        for found, _, at, size, _ in self.sections:
            if found == kind:
                yield from struct.iter_unpack(layout, self.data[at : at + size])

    def place(self, address):
        for kind, start, at, size, _ in self.sections:
            if kind != 8 and start and start <= address < start + size:  # SHT_NOBITS
                return address - start + at
        raise ValueError(f"nothing of the file is at {address:#x}")

    def text(self, at):
        return self.data[at : self.data.index(b"\0", at)].decode()

    def modules(self):
        """Addresses of what is called ngx_..._module."""
        for kind, _, _, _, link in self.sections:
            if kind == 11:  # SHT_DYNSYM
                names = self.sections[link][2]
        for name, _, _, _, address, _ in self.entries(11, "<IBBHQQ"):
            text = self.text(names + name)
            if address and text.startswith("ngx_") and text.endswith("_module"):
                yield address


def commands(path):
    elf = Elf(path)
    found = []
    for module in elf.modules():
        at = elf.pointers.get(module + COMMANDS_AT)
        while at and (name := elf.pointers.get(at + 8)):
            kind = COMMAND.unpack_from(elf.data, elf.place(at))[2]
            found.append(Command(elf.text(elf.place(name)), kind))
            at += COMMAND.size
    return found
