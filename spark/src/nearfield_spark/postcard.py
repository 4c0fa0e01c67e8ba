"""Postcard, the encoding of the guest's messages: https://postcard.jamesmunns.com/wire-format.

A writer appends to a ``bytearray``; a reader walks through ``bytes``. What a message consists of is in ``messages``.
"""

import struct


class Malformed(ValueError):
    """Bytes that are no message."""


class Writer:
    """Appends values to bytes."""

    def __init__(self):
        self.bytes = bytearray()

    def raw(self, value):
        """Appends bytes as they are: an array of fixed length."""
        self.bytes += value

    def bool(self, value):
        self.bytes.append(1 if value else 0)

    def unsigned(self, value):
        """Appends a whole number of 16 to 64 bits, seven bits a byte, the lowest first."""
        while value >= 0x80:
            self.bytes.append(value & 0x7F | 0x80)
            value >>= 7
        self.bytes.append(value)

    def signed(self, value):
        """Appends a whole number with a sign, zigzag: 0, -1, 1, -2, …"""
        self.unsigned(value << 1 if value >= 0 else (-value << 1) - 1)

    def f32(self, value):
        self.bytes += struct.pack("<f", value)

    def f64(self, value):
        self.bytes += struct.pack("<d", value)

    def data(self, value):
        """Appends bytes with their length."""
        self.unsigned(len(value))
        self.bytes += value

    def text(self, value):
        self.data(value.encode())

    def option(self, value, write):
        """Appends a value that may be ``None``."""
        self.bool(value is not None)
        if value is not None:
            write(value)

    def many(self, values, write):
        """Appends a sequence."""
        self.unsigned(len(values))
        for value in values:
            write(value)


class Reader:
    """Reads values from bytes, in the order in which they were written."""

    def __init__(self, data):
        self.data = memoryview(data)
        self.at = 0

    def raw(self, length):
        end = self.at + length
        if end > len(self.data):
            raise Malformed(f"{length} bytes at {self.at} of {len(self.data)}")
        taken = bytes(self.data[self.at : end])
        self.at = end
        return taken

    def u8(self):
        return self.raw(1)[0]

    def bool(self):
        return self.u8() == 1

    def unsigned(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise Malformed(f"a number of more than 64 bits at {self.at}")

    def f32(self):
        return struct.unpack("<f", self.raw(4))[0]

    def f64(self):
        return struct.unpack("<d", self.raw(8))[0]

    def sized(self):
        return self.raw(self.unsigned())

    def text(self):
        return self.sized().decode()

    def option(self, read):
        return read() if self.bool() else None

    def many(self, read):
        return [read() for _ in range(self.unsigned())]

    def end(self):
        if self.at != len(self.data):
            raise Malformed(f"{len(self.data) - self.at} bytes follow the message")
