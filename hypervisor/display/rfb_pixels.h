// Pixels on their way to a viewer: its pixel format (RFC 6143 §7.4), and the Raw and ZRLE encodings
// (§7.7.1, §7.7.6).
//
// A viewer without true colour gets a fixed palette of 3-3-2 bits (rfb_palette()). ZlibStream keeps
// one deflate stream for the life of a connection, as ZRLE demands. Values; one thread each.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "hypervisor/display/screen.h"

namespace kumoi::hypervisor {

struct RfbPixelFormat {
    uint8_t bits_per_pixel = 32;  // 8, 16 or 32
    uint8_t depth = 24;
    bool big_endian = false;
    bool true_colour = true;
    uint16_t red_max = 255;
    uint16_t green_max = 255;
    uint16_t blue_max = 255;
    uint8_t red_shift = 16;
    uint8_t green_shift = 8;
    uint8_t blue_shift = 0;

    size_t bytes() const { return bits_per_pixel / 8u; }
    // 3 where §7.7.5 (CPIXEL) leaves out the byte that is always zero, else bytes().
    size_t compact_bytes() const;
    bool operator==(const RfbPixelFormat&) const = default;
};

// 16 bytes as on the wire. Refuses what is impossible: other widths, shifts past the pixel.
Result<RfbPixelFormat> parse_rfb_pixel_format(std::span<const uint8_t, 16> bytes);
std::string rfb_pixel_format_bytes(const RfbPixelFormat& format);
std::string rfb_palette();  // the SetColourMapEntries message (§7.6.2)

// Appends pixels in the viewer's format. `compact` writes CPIXELs.
class PixelWriter {
public:
    PixelWriter(const RfbPixelFormat& format, bool compact);
    void put(uint32_t pixel, std::string& out) const;
    void put(std::span<const uint32_t> pixels, std::string& out) const;

private:
    uint32_t convert(uint32_t pixel) const;
    const RfbPixelFormat format_;
    const size_t size_;
    const bool native_;  // as stored: little endian 0x00RRGGBB in four bytes
    size_t skip_ = 0;    // leading bytes of the pixel that a CPIXEL leaves out
};

class ZlibStream {
public:
    ZlibStream();
    ~ZlibStream();
    ZlibStream(const ZlibStream&) = delete;
    ZlibStream& operator=(const ZlibStream&) = delete;
    std::string deflate(std::string_view bytes);  // all of it, flushed

private:
    struct State;
    std::unique_ptr<State> state_;
};

void encode_raw(const Screen& screen, const ScreenRect& rect, const RfbPixelFormat& format,
                std::string& out);
void encode_zrle(const Screen& screen, const ScreenRect& rect, const RfbPixelFormat& format,
                 ZlibStream& stream, std::string& out);

}  // namespace kumoi::hypervisor
