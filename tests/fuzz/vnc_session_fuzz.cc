// A viewer's bytes, plain and through a WebSocket, in pieces that the input chooses, while the
// picture changes and resizes.
#include <cstdint>
#include <string_view>

#include "base/websocket.h"
#include "hypervisor/display/rfb_session.h"

namespace {

using namespace kumoi;              // NOLINT: one file
using namespace kumoi::hypervisor;  // NOLINT: one file

class Picture final : public DisplaySource {
public:
    DisplayMode mode() const override { return mode_; }
    bool read_row(const DisplayMode&, uint32_t y, std::span<uint32_t> out) const override {
        for (uint32_t x = 0; x < out.size(); ++x) {
            out[x] = (x * y + turn_) & 0xffffff;
        }
        return true;
    }
    void next(uint8_t choice) {
        turn_ += choice;
        if (choice % 7 == 0) {
            mode_ = {1u + choice, 1u + choice / 2u};
        }
    }

private:
    DisplayMode mode_{70, 20};
    uint32_t turn_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) {
        return 0;
    }
    Picture picture;
    Screen screen(picture);
    screen.refresh();
    InputHub hub;
    RfbSession session("fuzz", screen, hub);
    WebSocketStream web({"binary"});
    const bool plain = (data[0] & 1) != 0;
    std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    if (plain && (data[0] & 2) != 0) {
        (void)session.receive("RFB 003.008\n\1\1");
    }
    while (!rest.empty()) {
        const auto choice = static_cast<uint8_t>(rest[0]);
        const std::string_view piece = rest.substr(1, choice);
        rest.remove_prefix(std::min<size_t>(rest.size(), size_t{1} + choice));
        if (plain) {
            if (!session.receive(piece)) {
                break;
            }
        } else {
            const auto payload = web.receive(piece);
            web.take_output();
            if (!payload || !session.receive(*payload)) {
                break;
            }
        }
        picture.next(choice);
        session.screen_changed(screen.refresh());
        session.update();
        session.take_output();
    }
    return 0;
}
