// Screen: the picture as viewers were last shown it, kept up to date with a DisplaySource by
// comparison, in tiles of 64 x 16 pixels.
//
//     Screen::Change change = screen.refresh();      // reads the source once
//     if (change.resized) ... else for each viewer: viewer.dirty |= change.tiles
//
// Comparing costs a read of the visible pixels and no help from the guest, the device or KVM; it
// also drops writes that change nothing. One thread, the viewers' thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hypervisor/display/display_source.h"

namespace kumoi::hypervisor {

struct ScreenRect {
    uint32_t x = 0;
    uint32_t y = 0;
    uint32_t width = 0;
    uint32_t height = 0;
    bool operator==(const ScreenRect&) const = default;
};

// Which tiles of a screen; false everywhere at first.
class TileSet {
public:
    static constexpr uint32_t kTileWidth = 64;
    static constexpr uint32_t kTileHeight = 16;

    TileSet() = default;
    explicit TileSet(const DisplayMode& mode);
    void mark(uint32_t column, uint32_t row) { tiles_[size_t{row} * columns_ + column] = true; }
    void mark(const ScreenRect& area);  // every tile it touches; what lies outside is ignored
    void mark_all();
    void add(const TileSet& other);  // of the same mode
    bool empty() const;
    uint32_t columns() const { return columns_; }
    uint32_t rows() const { return rows_; }
    // Marked tiles as rectangles of pixels, inside the screen and, of these, only inside `area`;
    // what is returned is unmarked. At most `rects_max`: the rest stays marked.
    std::vector<ScreenRect> take(const ScreenRect& area, size_t rects_max);

private:
    bool marked(uint32_t column, uint32_t row) const {
        return tiles_[size_t{row} * columns_ + column];
    }
    ScreenRect take_block(uint32_t column, uint32_t row, uint32_t column_end, uint32_t row_end);

    DisplayMode mode_;
    uint32_t columns_ = 0;
    uint32_t rows_ = 0;
    std::vector<bool> tiles_;
};

class Screen {
public:
    struct Change {
        bool resized = false;  // everything is new then
        TileSet tiles;
    };

    explicit Screen(const DisplaySource& source) : source_(source) {}
    Change refresh();
    const DisplayMode& mode() const { return mode_; }
    std::span<const uint32_t> row(uint32_t y) const {
        return std::span(pixels_).subspan(size_t{y} * mode_.width, mode_.width);
    }
    void forget();  // nobody looks: gives the memory back; the next refresh() is a resize

private:
    void compare_row(uint32_t y, std::span<const uint32_t> fresh, TileSet& changed);

    const DisplaySource& source_;
    DisplayMode mode_;
    std::vector<uint32_t> pixels_;
    std::vector<uint32_t> fresh_;
};

}  // namespace kumoi::hypervisor
