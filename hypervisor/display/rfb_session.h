// RfbSession: one viewer of a screen: the RFB protocol 3.3 to 3.8 (RFC 6143) as bytes in and bytes
// out.
//
//     RfbSession session({.name = "web-1", ...}, screen, input);
//     TRY(session.receive(bytes_from_the_viewer));     // an error ends the connection
//     session.screen_changed(change);                  // after each Screen::refresh()
//     session.update();                                // answers a waiting request, if it can
//     send(session.take_output());
//
// Security type None: whoever reaches the socket may look. Encodings Raw and ZRLE; DesktopSize,
// LastRect and QEMU's extended key events are understood. A viewer that asks for pixels in a way
// that cannot be served, or sends what is no message, is refused with the reason. No sockets, no
// clock; one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "hypervisor/display/input_hub.h"
#include "hypervisor/display/rfb_pixels.h"
#include "hypervisor/display/screen.h"

namespace kumoi::hypervisor {

class RfbSession {
public:
    static constexpr size_t kInputMax = 64u << 10;       // bytes of one message, but for clipboards
    static constexpr uint32_t kClipboardMax = 1u << 20;  // bytes; longer ends the connection
    static constexpr size_t kEncodingsMax = 256;
    static constexpr size_t kRectsMax = 256;  // of one update

    RfbSession(std::string name, const Screen& screen, InputHub& input);

    Result<void> receive(std::string_view bytes);
    void screen_changed(const Screen::Change& change);
    // Puts a framebuffer update into the output when one was asked for and there is something new.
    void update();
    std::string take_output() { return std::exchange(output_, {}); }
    size_t output_size() const { return output_.size(); }
    bool wants_update() const { return requested_; }
    bool established() const { return phase_ == Phase::Normal; }
    bool shared() const { return shared_; }

private:
    enum class Phase { Version, Security, ClientInit, Normal };
    enum class Encoding { Raw, Zrle };

    // Each returns how many bytes it used; 0: not all of the message is here yet.
    Result<size_t> take_message();
    Result<size_t> take_version();
    Result<size_t> take_security();
    Result<size_t> take_client_init();
    Result<size_t> take_normal();
    Result<size_t> take_pixel_format();
    Result<size_t> take_encodings();
    Result<size_t> take_update_request();
    Result<size_t> take_key();
    Result<size_t> take_pointer();
    Result<size_t> take_clipboard();
    Result<size_t> take_qemu();
    Result<size_t> take_desktop_size();

    void use_encodings();
    bool announce_size();
    bool announce_extended_keys();
    void put_rect(const ScreenRect& rect, int32_t encoding);
    void put_pixels(const std::vector<ScreenRect>& rects);
    void press(uint16_t key, bool down);
    uint8_t byte(size_t offset) const { return static_cast<uint8_t>(input_[offset]); }
    uint16_t u16(size_t offset) const;
    uint32_t u32(size_t offset) const;

    const std::string name_;
    const Screen& screen_;
    InputHub& input_hub_;
    Phase phase_ = Phase::Version;
    unsigned minor_version_ = 8;
    bool shared_ = true;
    std::string input_;
    size_t discard_ = 0;  // bytes of a clipboard still to come
    std::string output_;
    RfbPixelFormat format_;
    std::vector<int32_t> encodings_;
    Encoding encoding_ = Encoding::Raw;
    bool takes_resize_ = false;
    bool takes_extended_keys_ = false;
    bool extended_keys_announced_ = false;
    bool resize_pending_ = false;
    DisplayMode shown_mode_;   // of the screen
    DisplayMode viewer_mode_;  // what the viewer was told; differs when it cannot resize
    bool requested_ = false;
    ScreenRect requested_area_;
    TileSet dirty_;
    ZlibStream zlib_;
    uint8_t buttons_ = 0;
};

}  // namespace kumoi::hypervisor
