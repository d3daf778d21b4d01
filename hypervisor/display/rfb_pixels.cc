#include "hypervisor/display/rfb_pixels.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include <zlib.h>

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kZrleTile = 64;
constexpr size_t kPaletteMax = 16;  // what packs into 1, 2 or 4 bits

void put16(uint16_t value, std::string& out) {
    out += static_cast<char>(value >> 8);
    out += static_cast<char>(value);
}

void put32(uint32_t value, std::string& out) {
    put16(static_cast<uint16_t>(value >> 16), out);
    put16(static_cast<uint16_t>(value), out);
}

uint16_t get16(const uint8_t* bytes) {
    return static_cast<uint16_t>(bytes[0] << 8 | bytes[1]);
}

bool fits(uint16_t max, uint8_t shift, uint8_t bits) {
    return std::bit_width(max) + shift <= bits;
}

}  // namespace

size_t RfbPixelFormat::compact_bytes() const {
    if (!true_colour || bits_per_pixel != 32 || depth > 24) {
        return bytes();
    }
    const uint64_t used = uint64_t{red_max} << red_shift | uint64_t{green_max} << green_shift |
                          uint64_t{blue_max} << blue_shift;
    return (used & 0xff000000u) == 0 || (used & 0xffu) == 0 ? 3 : 4;
}

Result<RfbPixelFormat> parse_rfb_pixel_format(std::span<const uint8_t, 16> bytes) {
    RfbPixelFormat format;
    format.bits_per_pixel = bytes[0];
    format.depth = bytes[1];
    format.big_endian = bytes[2] != 0;
    format.true_colour = bytes[3] != 0;
    if (format.bits_per_pixel != 8 && format.bits_per_pixel != 16 && format.bits_per_pixel != 32) {
        return Error::invalid("{} bits a pixel were asked for; 8, 16 and 32 exist",
                              format.bits_per_pixel);
    }
    if (!format.true_colour) {
        if (format.bits_per_pixel != 8) {
            return Error::unsupported("a palette is offered with 8 bits a pixel, not with {}",
                                      format.bits_per_pixel);
        }
        RfbPixelFormat palette{8, 8, false, false, 7, 7, 3, 5, 2, 0};
        return palette;
    }
    format.red_max = get16(&bytes[4]);
    format.green_max = get16(&bytes[6]);
    format.blue_max = get16(&bytes[8]);
    format.red_shift = bytes[10];
    format.green_shift = bytes[11];
    format.blue_shift = bytes[12];
    if (!fits(format.red_max, format.red_shift, format.bits_per_pixel) ||
        !fits(format.green_max, format.green_shift, format.bits_per_pixel) ||
        !fits(format.blue_max, format.blue_shift, format.bits_per_pixel)) {
        return Error::invalid("a colour lies outside the {} bits of a pixel",
                              format.bits_per_pixel);
    }
    return format;
}

std::string rfb_pixel_format_bytes(const RfbPixelFormat& format) {
    std::string out;
    out += static_cast<char>(format.bits_per_pixel);
    out += static_cast<char>(format.depth);
    out += format.big_endian ? '\1' : '\0';
    out += format.true_colour ? '\1' : '\0';
    put16(format.red_max, out);
    put16(format.green_max, out);
    put16(format.blue_max, out);
    out += static_cast<char>(format.red_shift);
    out += static_cast<char>(format.green_shift);
    out += static_cast<char>(format.blue_shift);
    out.append(3, '\0');
    return out;
}

std::string rfb_palette() {
    constexpr unsigned kColours = 256;
    std::string out{"\1\0", 2};
    put16(0, out);
    put16(kColours, out);
    for (unsigned colour = 0; colour < kColours; ++colour) {
        put16(static_cast<uint16_t>((colour >> 5 & 7) * 65535 / 7), out);
        put16(static_cast<uint16_t>((colour >> 2 & 7) * 65535 / 7), out);
        put16(static_cast<uint16_t>((colour & 3) * 65535 / 3), out);
    }
    return out;
}

PixelWriter::PixelWriter(const RfbPixelFormat& format, bool compact)
    : format_(format),
      size_(compact ? format.compact_bytes() : format.bytes()),
      native_(!compact && format == RfbPixelFormat{}) {
    if (size_ == 3) {
        const uint32_t used = uint32_t{format.red_max} << format.red_shift |
                              uint32_t{format.green_max} << format.green_shift |
                              uint32_t{format.blue_max} << format.blue_shift;
        const bool top_is_free = (used & 0xff000000u) == 0;
        skip_ = top_is_free == format.big_endian ? 1 : 0;
    }
}

uint32_t PixelWriter::convert(uint32_t pixel) const {
    const auto scale = [](uint32_t value, uint32_t max) { return (value * max + 127) / 255; };
    return scale(pixel >> 16 & 0xff, format_.red_max) << format_.red_shift |
           scale(pixel >> 8 & 0xff, format_.green_max) << format_.green_shift |
           scale(pixel & 0xff, format_.blue_max) << format_.blue_shift;
}

void PixelWriter::put(uint32_t pixel, std::string& out) const {
    const uint32_t value = convert(pixel);
    const size_t width = format_.bytes();
    std::array<char, 4> bytes{};
    for (size_t i = 0; i < width; ++i) {
        const size_t shift = 8 * (format_.big_endian ? width - 1 - i : i);
        bytes[i] = static_cast<char>(value >> shift);
    }
    out.append(bytes.data() + skip_, size_);
}

void PixelWriter::put(std::span<const uint32_t> pixels, std::string& out) const {
    if (native_ && std::endian::native == std::endian::little) {
        out.append(reinterpret_cast<const char*>(pixels.data()), pixels.size_bytes());
        return;
    }
    for (const uint32_t pixel : pixels) {
        put(pixel, out);
    }
}

struct ZlibStream::State {
    z_stream stream{};
    bool ready = false;
};

ZlibStream::ZlibStream() : state_(std::make_unique<State>()) {
    // Level 1 and 32 KiB of window with small hash tables: 70 KiB a viewer, and fast.
    state_->ready = deflateInit2(&state_->stream, 1, Z_DEFLATED, 15, 5, Z_DEFAULT_STRATEGY) == Z_OK;
}

ZlibStream::~ZlibStream() {
    if (state_->ready) {
        deflateEnd(&state_->stream);
    }
}

std::string ZlibStream::deflate(std::string_view bytes) {
    std::string out;
    if (!state_->ready) {
        return out;
    }
    z_stream& stream = state_->stream;
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    std::array<char, 16u << 10> chunk;
    do {
        stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
        stream.avail_out = chunk.size();
        ::deflate(&stream, Z_SYNC_FLUSH);
        out.append(chunk.data(), chunk.size() - stream.avail_out);
    } while (stream.avail_out == 0);
    return out;
}

void encode_raw(const Screen& screen, const ScreenRect& rect, const RfbPixelFormat& format,
                std::string& out) {
    const PixelWriter writer(format, false);
    for (uint32_t y = 0; y < rect.height; ++y) {
        writer.put(screen.row(rect.y + y).subspan(rect.x, rect.width), out);
    }
}

namespace {

// One tile of at most 64 x 64 pixels, ZRLE's unit.
class ZrleTile {
public:
    ZrleTile(const Screen& screen, const ScreenRect& tile) : tile_(tile) {
        pixels_.reserve(size_t{tile.width} * tile.height);
        for (uint32_t y = 0; y < tile.height; ++y) {
            const auto row = screen.row(tile.y + y).subspan(tile.x, tile.width);
            pixels_.insert(pixels_.end(), row.begin(), row.end());
        }
        survey();
    }

    void encode(const PixelWriter& writer, size_t pixel_size, std::string& out) const {
        if (palette_.size() == 1) {
            out += '\1';
            writer.put(palette_[0], out);
            return;
        }
        const size_t raw = pixels_.size() * pixel_size;
        const size_t runs = runs_ * (pixel_size + 1);
        const size_t packed = palette_.empty()
                                  ? raw
                                  : palette_.size() * pixel_size +
                                        (tile_.width * packed_bits() + 7) / 8 * tile_.height;
        if (packed < raw && packed <= runs) {
            encode_packed(writer, out);
        } else if (runs < raw) {
            encode_runs(writer, out);
        } else {
            out += '\0';
            writer.put(pixels_, out);
        }
    }

private:
    // Counts runs and collects the colours; an empty palette says there are too many.
    void survey() {
        bool small = true;
        for (size_t i = 0; i < pixels_.size(); ++i) {
            if (i != 0 && pixels_[i] == pixels_[i - 1]) {
                continue;
            }
            ++runs_;
            if (small &&
                std::find(palette_.begin(), palette_.end(), pixels_[i]) == palette_.end()) {
                palette_.push_back(pixels_[i]);
                small = palette_.size() <= kPaletteMax;
            }
        }
        if (!small) {
            palette_.clear();
        }
    }

    uint32_t packed_bits() const { return palette_.size() <= 2 ? 1 : palette_.size() <= 4 ? 2 : 4; }

    void encode_packed(const PixelWriter& writer, std::string& out) const {
        out += static_cast<char>(palette_.size());
        writer.put(palette_, out);
        const uint32_t bits = packed_bits();
        for (uint32_t y = 0; y < tile_.height; ++y) {
            uint32_t byte = 0;
            uint32_t used = 0;
            for (uint32_t x = 0; x < tile_.width; ++x) {
                const auto place = std::find(palette_.begin(), palette_.end(),
                                             pixels_[size_t{y} * tile_.width + x]);
                byte = byte << bits | static_cast<uint32_t>(place - palette_.begin());
                used += bits;
                if (used == 8) {
                    out += static_cast<char>(byte);
                    byte = used = 0;
                }
            }
            if (used != 0) {
                out += static_cast<char>(byte << (8 - used));
            }
        }
    }

    void encode_runs(const PixelWriter& writer, std::string& out) const {
        out += static_cast<char>(128);
        for (size_t i = 0; i < pixels_.size();) {
            size_t end = i + 1;
            while (end < pixels_.size() && pixels_[end] == pixels_[i]) {
                ++end;
            }
            writer.put(pixels_[i], out);
            size_t rest = end - i - 1;  // §7.7.6: the length less one, in base 255
            for (; rest >= 255; rest -= 255) {
                out += static_cast<char>(255);
            }
            out += static_cast<char>(rest);
            i = end;
        }
    }

    const ScreenRect tile_;
    std::vector<uint32_t> pixels_;
    std::vector<uint32_t> palette_;
    size_t runs_ = 0;
};

}  // namespace

void encode_zrle(const Screen& screen, const ScreenRect& rect, const RfbPixelFormat& format,
                 ZlibStream& stream, std::string& out) {
    const PixelWriter writer(format, true);
    std::string plain;
    for (uint32_t y = 0; y < rect.height; y += kZrleTile) {
        for (uint32_t x = 0; x < rect.width; x += kZrleTile) {
            const ZrleTile tile(screen,
                                {rect.x + x, rect.y + y, std::min(kZrleTile, rect.width - x),
                                 std::min(kZrleTile, rect.height - y)});
            tile.encode(writer, format.compact_bytes(), plain);
        }
    }
    const std::string packed = stream.deflate(plain);
    put32(static_cast<uint32_t>(packed.size()), out);
    out += packed;
}

}  // namespace kumoi::hypervisor
