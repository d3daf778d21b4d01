#include "hypervisor/display/rfb_session.h"

#include <gtest/gtest.h>
#include <linux/input-event-codes.h>
#include <zlib.h>

#include <map>

namespace kumoi::hypervisor {
namespace {

class PictureFake final : public DisplaySource {
public:
    explicit PictureFake(DisplayMode mode) { resize(mode); }
    void resize(DisplayMode mode) {
        mode_ = mode;
        pixels_.assign(size_t{mode.width} * mode.height, 0x102030);
    }
    void set(uint32_t x, uint32_t y, uint32_t pixel) {
        pixels_[size_t{y} * mode_.width + x] = pixel;
    }
    DisplayMode mode() const override { return mode_; }
    bool read_row(const DisplayMode& mode, uint32_t y, std::span<uint32_t> out) const override {
        if (mode != mode_) {
            return false;
        }
        std::copy_n(pixels_.begin() + size_t{y} * mode_.width, mode_.width, out.begin());
        return true;
    }

private:
    DisplayMode mode_;
    std::vector<uint32_t> pixels_;
};

class InputFake final : public KeySink, public PointerSink {
public:
    bool ready() const override { return is_ready; }
    void key(uint16_t code, bool down) override { keys.emplace_back(code, down); }
    void pointer(const PointerState& state) override { pointers.push_back(state); }
    bool is_ready = true;
    std::vector<std::pair<uint16_t, bool>> keys;
    std::vector<PointerState> pointers;
};

std::string u16(uint32_t value) {
    return {static_cast<char>(value >> 8), static_cast<char>(value)};
}
std::string u32(uint32_t value) {
    return u16(value >> 16) + u16(value & 0xffff);
}
uint32_t read32(std::string_view text, size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4; ++i) {
        value = value << 8 | static_cast<uint8_t>(text[at + i]);
    }
    return value;
}
uint32_t read16(std::string_view text, size_t at) {
    return read32(std::string("\0\0", 2) + std::string(text.substr(at, 2)), 0);
}

class RfbSessionTest : public ::testing::Test {
protected:
    RfbSessionTest() {
        hub_.add(static_cast<KeySink&>(input_));
        hub_.add(static_cast<PointerSink&>(input_));
        screen_.refresh();
    }
    void greet() {
        ASSERT_TRUE(session_.receive("RFB 003.008\n"));
        ASSERT_TRUE(session_.receive("\1"));
        ASSERT_TRUE(session_.receive("\1"));
        session_.take_output();
    }
    void encodings(const std::vector<int32_t>& list) {
        std::string message{"\2\0", 2};
        message += u16(static_cast<uint32_t>(list.size()));
        for (const int32_t encoding : list) {
            message += u32(static_cast<uint32_t>(encoding));
        }
        ASSERT_TRUE(session_.receive(message));
    }
    std::string request(bool incremental, ScreenRect area) {
        std::string message = "\3";
        message += incremental ? '\1' : '\0';
        message += u16(area.x) + u16(area.y) + u16(area.width) + u16(area.height);
        EXPECT_TRUE(session_.receive(message));
        session_.update();
        return session_.take_output();
    }
    void refresh() { session_.screen_changed(screen_.refresh()); }

    PictureFake picture_{{100, 40}};
    Screen screen_{picture_};
    InputHub hub_;
    InputFake input_;
    RfbSession session_{"web-1", screen_, hub_};
};

TEST_F(RfbSessionTest, GreetsByRfc6143) {
    EXPECT_EQ(session_.take_output(), "RFB 003.008\n");
    ASSERT_TRUE(session_.receive("RFB 003.0"));
    EXPECT_EQ(session_.take_output(), "");
    ASSERT_TRUE(session_.receive("08\n"));
    EXPECT_EQ(session_.take_output(), "\1\1");
    ASSERT_TRUE(session_.receive("\1"));
    EXPECT_EQ(session_.take_output(), u32(0));
    ASSERT_TRUE(session_.receive(std::string(1, '\0')));
    EXPECT_FALSE(session_.shared());
    const std::string init = session_.take_output();
    ASSERT_EQ(init.size(), 24 + 5u);
    EXPECT_EQ(read16(init, 0), 100u);
    EXPECT_EQ(read16(init, 2), 40u);
    EXPECT_EQ(init.substr(4, 4), std::string("\x20\x18\0\1", 4));
    EXPECT_EQ(init.substr(24), "web-1");
}

TEST_F(RfbSessionTest, Version33HasNoChoice) {
    session_.take_output();
    ASSERT_TRUE(session_.receive("RFB 003.003\n"));
    EXPECT_EQ(session_.take_output(), u32(1));
    ASSERT_TRUE(session_.receive("\1"));
    EXPECT_TRUE(session_.established());
}

TEST_F(RfbSessionTest, RawUpdateShowsWhatChanged) {
    greet();
    encodings({0});
    const std::string all = request(false, {0, 0, 100, 40});
    EXPECT_EQ(read16(all, 2), 1u);
    EXPECT_EQ(all.size(), 4 + 12 + 100u * 40 * 4);
    EXPECT_EQ(all.substr(16, 4), std::string("\x30\x20\x10\0", 4));
    EXPECT_EQ(request(true, {0, 0, 100, 40}), "");
    EXPECT_TRUE(session_.wants_update());

    picture_.set(70, 20, 0xff0000);
    refresh();
    session_.update();
    const std::string changed = session_.take_output();
    ASSERT_GE(changed.size(), 16u);
    EXPECT_EQ(read16(changed, 4), 64u);
    EXPECT_EQ(read16(changed, 6), 16u);
    EXPECT_EQ(read16(changed, 8), 36u);
    EXPECT_EQ(read16(changed, 10), 16u);
    EXPECT_EQ(changed.substr(16 + (4 * 36 + 6) * 4, 4), std::string("\0\0\xff\0", 4));
}

// Decodes one ZRLE rectangle with a reader of its own, written from the RFC.
std::vector<uint32_t> decode_zrle(std::string_view packed, uint32_t width, uint32_t height) {
    std::string plain(1 << 20, '\0');
    z_stream stream{};
    EXPECT_EQ(inflateInit(&stream), Z_OK);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(plain.data());
    stream.avail_out = static_cast<uInt>(plain.size());
    inflate(&stream, Z_SYNC_FLUSH);
    plain.resize(stream.total_out);
    inflateEnd(&stream);
    std::vector<uint32_t> out(size_t{width} * height);
    size_t at = 0;
    const auto byte = [&] { return static_cast<uint8_t>(plain.at(at++)); };
    const auto pixel = [&] {
        const uint32_t blue = byte();
        const uint32_t green = byte();
        return blue | green << 8 | uint32_t{byte()} << 16;
    };
    for (uint32_t ty = 0; ty < height; ty += 64) {
        for (uint32_t tx = 0; tx < width; tx += 64) {
            const uint32_t w = std::min(64u, width - tx);
            const uint32_t h = std::min(64u, height - ty);
            std::vector<uint32_t> tile;
            const uint8_t kind = byte();
            if (kind == 0) {
                while (tile.size() < size_t{w} * h) {
                    tile.push_back(pixel());
                }
            } else if (kind == 1) {
                tile.assign(size_t{w} * h, pixel());
            } else if (kind <= 16) {
                std::vector<uint32_t> palette;
                while (palette.size() < kind) {
                    palette.push_back(pixel());
                }
                const unsigned bits = kind == 2 ? 1 : kind <= 4 ? 2 : 4;
                for (uint32_t y = 0; y < h; ++y) {
                    uint8_t value = 0;
                    for (uint32_t x = 0; x < w; ++x) {
                        if (x * bits % 8 == 0) {
                            value = byte();
                        }
                        tile.push_back(palette.at(value >> (8 - bits)));
                        value = static_cast<uint8_t>(value << bits);
                    }
                }
            } else {
                EXPECT_EQ(kind, 128);
                while (tile.size() < size_t{w} * h) {
                    const uint32_t value = pixel();
                    size_t length = 1;
                    uint8_t more = 255;
                    while (more == 255) {
                        more = byte();
                        length += more;
                    }
                    tile.insert(tile.end(), length, value);
                }
            }
            for (uint32_t y = 0; y < h; ++y) {
                std::copy_n(tile.begin() + y * w, w, out.begin() + (ty + y) * width + tx);
            }
        }
    }
    EXPECT_EQ(at, plain.size());
    return out;
}

TEST_F(RfbSessionTest, ZrleDecodesToThePicture) {
    picture_.resize({200, 130});
    for (uint32_t y = 0; y < 130; ++y) {
        for (uint32_t x = 0; x < 200; ++x) {
            // Left: noise; middle: three colours; right: long runs.
            picture_.set(x, y,
                         x < 64    ? (x * 2654435761u ^ y * 40503u) & 0xffffff
                         : x < 128 ? (x + y) % 3 * 0x101010
                                   : y / 20 * 0x050505);
        }
    }
    screen_.refresh();
    greet();
    encodings({16, 0});
    const std::string update = request(false, {0, 0, 200, 130});
    ASSERT_EQ(read16(update, 2), 1u);
    ASSERT_EQ(read32(update, 12), 16u);
    const uint32_t length = read32(update, 16);
    ASSERT_EQ(update.size(), 20 + length);
    const auto pixels = decode_zrle(std::string_view(update).substr(20), 200, 130);
    for (uint32_t y = 0; y < 130; ++y) {
        const auto row = screen_.row(y);
        ASSERT_TRUE(std::equal(row.begin(), row.end(), pixels.begin() + y * 200)) << "row " << y;
    }
    EXPECT_LT(update.size(), 200u * 130 * 3);
}

TEST_F(RfbSessionTest, ViewerWithoutTrueColourGetsAPalette) {
    greet();
    encodings({0});
    std::string message(4, '\0');
    message += std::string("\x08\x08\0\0", 4) + std::string(12, '\0');
    ASSERT_TRUE(session_.receive(message));
    const std::string palette = session_.take_output();
    EXPECT_EQ(palette.size(), 6 + 256u * 6);
    EXPECT_EQ(request(false, {0, 0, 100, 40}).size(), 16 + 100u * 40);
}

TEST_F(RfbSessionTest, BigEndianSixteenBits) {
    picture_.set(0, 0, 0xff8000);
    screen_.refresh();
    greet();
    encodings({0});
    std::string message(4, '\0');
    message += std::string("\x10\x10\1\1", 4) + u16(31) + u16(63) + u16(31) + "\x0b\x05" +
               std::string(4, '\0');
    ASSERT_TRUE(session_.receive(message));
    const std::string update = request(false, {0, 0, 1, 1});
    const uint32_t pixel = read16(update, 16);
    EXPECT_EQ(pixel >> 11, 31u);
    EXPECT_EQ(pixel >> 5 & 63, 32u);
    EXPECT_EQ(pixel & 31, 0u);
}

TEST_F(RfbSessionTest, ResizeIsAnnouncedOrCutToWhatTheViewerHas) {
    greet();
    encodings({0, -223});
    request(false, {0, 0, 100, 40});
    picture_.resize({50, 30});
    refresh();
    const std::string update = request(true, {0, 0, 100, 40});
    ASSERT_EQ(update.size(), 16u);
    EXPECT_EQ(read16(update, 8), 50u);
    EXPECT_EQ(read16(update, 10), 30u);
    EXPECT_EQ(read32(update, 12), static_cast<uint32_t>(-223));
    EXPECT_EQ(request(true, {0, 0, 50, 30}).size(), 16 + 50u * 30 * 4);
}

TEST_F(RfbSessionTest, ViewerThatCannotResizeSeesTheCorner) {
    greet();
    encodings({0});
    request(false, {0, 0, 100, 40});
    picture_.resize({300, 200});
    refresh();
    EXPECT_EQ(request(true, {0, 0, 100, 40}).size(), 16 + 100u * 40 * 4);
}

TEST_F(RfbSessionTest, KeysReachTheGuest) {
    greet();
    const std::string down = std::string("\4\1\0\0", 4);
    const std::string up = std::string("\4\0\0\0", 4);
    ASSERT_TRUE(session_.receive(down + u32(0xffe1) + down + u32('A') + up + u32('A')));
    ASSERT_TRUE(session_.receive(std::string("\xff\0\0\1", 4) + u32(0) + u32(0x9d)));
    const std::vector<std::pair<uint16_t, bool>> expected = {
        {KEY_LEFTSHIFT, true}, {KEY_A, true}, {KEY_A, false}, {KEY_RIGHTCTRL, true}};
    EXPECT_EQ(input_.keys, expected);
    hub_.release_all();
    EXPECT_EQ(input_.keys.size(), 6u);
}

TEST_F(RfbSessionTest, PointerIsScaledAndTheWheelClicksOnce) {
    greet();
    ASSERT_TRUE(session_.receive(std::string("\5\1", 2) + u16(99) + u16(0)));
    ASSERT_TRUE(session_.receive(std::string("\5\x09", 2) + u16(0) + u16(39)));
    ASSERT_TRUE(session_.receive(std::string("\5\x09", 2) + u16(60000) + u16(39)));
    ASSERT_EQ(input_.pointers.size(), 3u);
    EXPECT_EQ(input_.pointers[0].x, kPointerMax);
    EXPECT_TRUE(input_.pointers[0].left);
    EXPECT_EQ(input_.pointers[1].y, kPointerMax);
    EXPECT_EQ(input_.pointers[1].wheel, 1);
    EXPECT_EQ(input_.pointers[2].wheel, 0);
    EXPECT_EQ(input_.pointers[2].x, kPointerMax);
}

TEST_F(RfbSessionTest, ClipboardsAreReadOver) {
    greet();
    ASSERT_TRUE(session_.receive(std::string("\6\0\0\0", 4) + u32(3) + "abc" +
                                 std::string("\4\1\0\0", 4) + u32('z')));
    ASSERT_TRUE(session_.receive(std::string("\6\0\0\0", 4) + u32(static_cast<uint32_t>(-2)) +
                                 "xy" + std::string("\4\0\0\0", 4) + u32('z')));
    EXPECT_EQ(input_.keys.size(), 2u);
}

TEST_F(RfbSessionTest, RefusesWhatIsNoRfb) {
    EXPECT_FALSE(session_.receive("GET / HTTP/1.1\r\n\r\n"));
    for (const std::string& bad : {std::string("\x09"), std::string("\6\0\0\0", 4) + u32(1u << 30),
                                   std::string("\0\0\0\0\x18\x18\0\1", 8) + std::string(12, '\1'),
                                   std::string("\2\0\xff\xff", 4), std::string("\xff\7", 2)}) {
        RfbSession session("x", screen_, hub_);
        ASSERT_TRUE(session.receive("RFB 003.008\n\1\1"));
        EXPECT_FALSE(session.receive(bad)) << static_cast<int>(bad[0]);
    }
}

TEST(InputHubTest, AKeyComesUpWhereItWentDown) {
    InputHub hub;
    InputFake first;
    InputFake second;
    hub.add(static_cast<KeySink&>(first));
    hub.add(static_cast<KeySink&>(second));
    first.is_ready = false;
    hub.key(KEY_A, true);
    first.is_ready = true;
    hub.key(KEY_A, false);
    hub.key(KEY_A, true);
    hub.key(KEY_B, false);
    EXPECT_EQ(second.keys.size(), 2u);
    EXPECT_EQ(first.keys.size(), 1u);
}

TEST(TileSetTest, TakesRectanglesOnceAndNoMoreThanAsked) {
    TileSet tiles(DisplayMode{200, 50});
    tiles.mark({0, 0, 65, 17});
    tiles.mark({199, 49, 1, 1});
    tiles.mark({5000, 0, 1, 1});
    const auto first = tiles.take({0, 0, 200, 50}, 1);
    ASSERT_EQ(first.size(), 1u);
    EXPECT_EQ(first[0], (ScreenRect{0, 0, 128, 32}));
    const auto second = tiles.take({0, 0, 200, 50}, 8);
    ASSERT_EQ(second.size(), 1u);
    EXPECT_EQ(second[0], (ScreenRect{192, 48, 8, 2}));
    EXPECT_TRUE(tiles.empty());
}

}  // namespace
}  // namespace kumoi::hypervisor
