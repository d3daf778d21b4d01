"""A small VNC viewer (RFB 3.8, Raw encoding): pictures as rows of pixels, keys and pointer to the guest,
and a reader of the text that firmware and boot loaders draw with a VGA font."""
import struct

PIXEL_FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
FONT_HEIGHT = 16
# The letter A of every VGA BIOS's 8x16 font: where it lies in the ROM tells where the font is.
LETTER_A = bytes([0, 0, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0, 0, 0, 0])


class Viewer:
    """`stream`: something with recv(n) and sendall(bytes), connected to a VNC server."""

    def __init__(self, stream):
        self.stream = stream
        version = self.take(12)
        assert version == b"RFB 003.008\n", version
        stream.sendall(version)
        kinds = self.take(self.take(1)[0])
        assert 1 in kinds, kinds
        stream.sendall(b"\1")
        assert self.take(4) == bytes(4)
        stream.sendall(b"\1")  # shared
        self.width, self.height = struct.unpack(">HH", self.take(4))
        self.take(16)
        self.name = self.take(struct.unpack(">I", self.take(4))[0]).decode()
        stream.sendall(b"\0\0\0\0" + PIXEL_FORMAT)
        stream.sendall(struct.pack(">BxHii", 2, 2, 0, -223))  # Raw, DesktopSize

    def take(self, size):
        got = bytearray()
        while len(got) < size:
            piece = self.stream.recv(size - len(got))
            if not piece:
                raise EOFError("the VNC server closed the connection")
            got += piece
        return bytes(got)

    def picture(self):
        """The whole picture as it is now: a list of rows of bytes, four a pixel."""
        while True:
            self.stream.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, self.width, self.height))
            kind = self.take(1)[0]
            while kind != 0:
                if kind == 3:
                    self.take(3)
                    self.take(struct.unpack(">I", self.take(4))[0])
                elif kind != 2:  # a bell has no more bytes
                    raise AssertionError(f"message {kind}")
                kind = self.take(1)[0]
            rows, resized = self.take_update()
            if not resized:
                return rows

    def take_update(self):
        count = struct.unpack(">xH", self.take(3))[0]
        rows = [bytearray(4 * self.width) for _ in range(self.height)]
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.take(12))
            if encoding == -223:
                self.width, self.height = width, height
                return None, True
            assert encoding == 0, encoding
            data = self.take(4 * width * height)
            for row in range(height):
                rows[y + row][4 * x:4 * (x + width)] = data[4 * width * row:4 * width * (row + 1)]
        return rows, False

    def key(self, keysym, down):
        self.stream.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def type(self, keysym):
        self.key(keysym, 1)
        self.key(keysym, 0)

    def pointer(self, x, y, buttons=0):
        self.stream.sendall(struct.pack(">BBHH", 5, buttons, x, y))


def vga_font(rom):
    """Glyph (16 bytes) to character, from a VGA BIOS image."""
    at = rom.find(LETTER_A)
    assert at >= 0, "no 8x16 font in the option ROM"
    start = at - ord("A") * FONT_HEIGHT
    return {rom[start + FONT_HEIGHT * code:start + FONT_HEIGHT * (code + 1)]: chr(code)
            for code in range(126, 31, -1)}


def text_of(rows, font):
    """The lines of text in a picture of 8x16 cells, light on black; what is no letter reads as `?`."""
    lines = []
    for top in range(0, len(rows) - FONT_HEIGHT + 1, FONT_HEIGHT):
        line = ""
        for left in range(0, len(rows[top]) - 31, 32):
            glyph = bytes(
                sum(1 << (7 - bit) for bit in range(8)
                    if any(rows[top + y][left + 4 * bit:left + 4 * bit + 3]))
                for y in range(FONT_HEIGHT))
            line += font.get(glyph, "?")
        lines.append(line.rstrip())
    return lines
