#include "hypervisor/display/screen.h"

#include <algorithm>
#include <cstring>

namespace kumoi::hypervisor {

namespace {

uint32_t tiles_across(uint32_t pixels, uint32_t tile) {
    return (pixels + tile - 1) / tile;
}

}  // namespace

TileSet::TileSet(const DisplayMode& mode)
    : mode_(mode),
      columns_(tiles_across(mode.width, kTileWidth)),
      rows_(tiles_across(mode.height, kTileHeight)),
      tiles_(size_t{columns_} * rows_, false) {}

void TileSet::mark(const ScreenRect& area) {
    if (area.x >= mode_.width || area.y >= mode_.height || area.width == 0 || area.height == 0) {
        return;
    }
    const uint32_t right = std::min(mode_.width - area.x, area.width) + area.x;
    const uint32_t bottom = std::min(mode_.height - area.y, area.height) + area.y;
    for (uint32_t row = area.y / kTileHeight; row < tiles_across(bottom, kTileHeight); ++row) {
        for (uint32_t column = area.x / kTileWidth; column < tiles_across(right, kTileWidth);
             ++column) {
            mark(column, row);
        }
    }
}

void TileSet::mark_all() {
    std::fill(tiles_.begin(), tiles_.end(), true);
}

void TileSet::add(const TileSet& other) {
    if (other.mode_ != mode_) {
        mark_all();
        return;
    }
    for (size_t i = 0; i < tiles_.size(); ++i) {
        tiles_[i] = tiles_[i] || other.tiles_[i];
    }
}

bool TileSet::empty() const {
    return std::find(tiles_.begin(), tiles_.end(), true) == tiles_.end();
}

std::vector<ScreenRect> TileSet::take(const ScreenRect& area, size_t rects_max) {
    std::vector<ScreenRect> rects;
    if (area.x >= mode_.width || area.y >= mode_.height || area.width == 0 || area.height == 0) {
        return rects;
    }
    const uint32_t right = std::min(mode_.width - area.x, area.width) + area.x;
    const uint32_t bottom = std::min(mode_.height - area.y, area.height) + area.y;
    const uint32_t column_end = tiles_across(right, kTileWidth);
    const uint32_t row_end = tiles_across(bottom, kTileHeight);
    for (uint32_t row = area.y / kTileHeight; row < row_end; ++row) {
        for (uint32_t column = area.x / kTileWidth; column < column_end; ++column) {
            if (marked(column, row)) {
                if (rects.size() == rects_max) {
                    return rects;
                }
                rects.push_back(take_block(column, row, column_end, row_end));
            }
        }
    }
    return rects;
}

// As wide as the run of marked tiles, then as high as that whole run stays marked.
ScreenRect TileSet::take_block(uint32_t column, uint32_t row, uint32_t column_end,
                               uint32_t row_end) {
    uint32_t right = column;
    while (right < column_end && marked(right, row)) {
        ++right;
    }
    uint32_t bottom = row;
    const auto whole_run = [&](uint32_t y) {
        for (uint32_t x = column; x < right; ++x) {
            if (!marked(x, y)) {
                return false;
            }
        }
        return true;
    };
    while (bottom < row_end && whole_run(bottom)) {
        for (uint32_t x = column; x < right; ++x) {
            tiles_[size_t{bottom} * columns_ + x] = false;
        }
        ++bottom;
    }
    const uint32_t x = column * kTileWidth;
    const uint32_t y = row * kTileHeight;
    return {x, y, std::min(right * kTileWidth, mode_.width) - x,
            std::min(bottom * kTileHeight, mode_.height) - y};
}

Screen::Change Screen::refresh() {
    Change change;
    const DisplayMode mode = source_.mode();
    if (mode != mode_) {
        mode_ = mode;
        pixels_.assign(size_t{mode.width} * mode.height, 0);
        change.resized = true;
    }
    change.tiles = TileSet(mode_);
    fresh_.resize(mode_.width);
    for (uint32_t y = 0; y < mode_.height; ++y) {
        if (!source_.read_row(mode_, y, fresh_)) {
            break;  // the mode is changing; the next refresh sees the new one
        }
        compare_row(y, fresh_, change.tiles);
    }
    if (change.resized) {
        change.tiles.mark_all();
    }
    return change;
}

void Screen::compare_row(uint32_t y, std::span<const uint32_t> fresh, TileSet& changed) {
    uint32_t* shown = pixels_.data() + size_t{y} * mode_.width;
    if (std::memcmp(shown, fresh.data(), fresh.size_bytes()) == 0) {
        return;
    }
    for (uint32_t x = 0; x < mode_.width; x += TileSet::kTileWidth) {
        const size_t bytes =
            std::min(TileSet::kTileWidth, mode_.width - x) * size_t{sizeof(uint32_t)};
        if (std::memcmp(shown + x, fresh.data() + x, bytes) != 0) {
            std::memcpy(shown + x, fresh.data() + x, bytes);
            changed.mark(x / TileSet::kTileWidth, y / TileSet::kTileHeight);
        }
    }
}

void Screen::forget() {
    mode_ = {};
    pixels_ = {};
    fresh_ = {};
}

}  // namespace kumoi::hypervisor
