#include "hypervisor/display/rfb_session.h"

#include <algorithm>

#include "hypervisor/display/keysyms.h"

namespace kumoi::hypervisor {

namespace {

constexpr std::string_view kVersion = "RFB 003.008\n";
constexpr uint8_t kSecurityNone = 1;
constexpr int32_t kEncodingRaw = 0;
constexpr int32_t kEncodingZrle = 16;
constexpr int32_t kPseudoDesktopSize = -223;
constexpr int32_t kPseudoExtendedKeys = -258;  // QEMU Extended Key Event

enum ClientMessage : uint8_t {
    kSetPixelFormat = 0,
    kSetEncodings = 2,
    kUpdateRequest = 3,
    kKeyEvent = 4,
    kPointerEvent = 5,
    kClientCutText = 6,
    kSetDesktopSize = 251,
    kQemu = 255,
};

void put16(uint32_t value, std::string& out) {
    out += static_cast<char>(value >> 8);
    out += static_cast<char>(value);
}

void put32(uint32_t value, std::string& out) {
    put16(value >> 16, out);
    put16(value & 0xffff, out);
}

}  // namespace

RfbSession::RfbSession(std::string name, const Screen& screen, InputHub& input)
    : name_(std::move(name)), screen_(screen), input_hub_(input), output_(kVersion) {}

uint16_t RfbSession::u16(size_t offset) const {
    return static_cast<uint16_t>(byte(offset) << 8 | byte(offset + 1));
}

uint32_t RfbSession::u32(size_t offset) const {
    return uint32_t{u16(offset)} << 16 | u16(offset + 2);
}

Result<void> RfbSession::receive(std::string_view bytes) {
    input_ += bytes;
    while (!input_.empty()) {
        const size_t dropped = std::min(discard_, input_.size());
        discard_ -= dropped;
        input_.erase(0, dropped);
        if (input_.empty()) {
            break;
        }
        const size_t used = TRY(take_message());
        if (used == 0) {
            if (input_.size() > kInputMax) {
                return Error::too_large("a message of the viewer is longer than {} bytes",
                                        kInputMax);
            }
            break;
        }
        input_.erase(0, used);
    }
    return {};
}

Result<size_t> RfbSession::take_message() {
    switch (phase_) {
        case Phase::Version: return take_version();
        case Phase::Security: return take_security();
        case Phase::ClientInit: return take_client_init();
        default: return take_normal();
    }
}

// §7.1.1. Versions that nobody published count as 3.3.
Result<size_t> RfbSession::take_version() {
    if (input_.size() < kVersion.size()) {
        return 0;
    }
    if (!input_.starts_with("RFB 003.") || input_[kVersion.size() - 1] != '\n') {
        return Error::invalid("this is no VNC viewer: it did not begin with its RFB version");
    }
    const std::string_view minor(input_.data() + 8, 3);
    minor_version_ = minor == "008" ? 8 : minor == "007" ? 7 : 3;
    if (minor_version_ == 3) {
        put32(kSecurityNone, output_);
        phase_ = Phase::ClientInit;
    } else {
        output_ += '\1';
        output_ += static_cast<char>(kSecurityNone);
        phase_ = Phase::Security;
    }
    return kVersion.size();
}

Result<size_t> RfbSession::take_security() {
    if (byte(0) != kSecurityNone) {
        return Error::invalid("the viewer chose security type {}; only None (1) was offered",
                              byte(0));
    }
    if (minor_version_ >= 8) {
        put32(0, output_);  // §7.1.3: OK
    }
    phase_ = Phase::ClientInit;
    return 1;
}

Result<size_t> RfbSession::take_client_init() {
    shared_ = byte(0) != 0;
    shown_mode_ = viewer_mode_ = screen_.mode();
    put16(shown_mode_.width, output_);
    put16(shown_mode_.height, output_);
    output_ += rfb_pixel_format_bytes(format_);
    put32(static_cast<uint32_t>(name_.size()), output_);
    output_ += name_;
    dirty_ = TileSet(shown_mode_);
    dirty_.mark_all();
    phase_ = Phase::Normal;
    return 1;
}

Result<size_t> RfbSession::take_normal() {
    switch (byte(0)) {
        case kSetPixelFormat: return take_pixel_format();
        case kSetEncodings: return take_encodings();
        case kUpdateRequest: return take_update_request();
        case kKeyEvent: return take_key();
        case kPointerEvent: return take_pointer();
        case kClientCutText: return take_clipboard();
        case kSetDesktopSize: return take_desktop_size();
        case kQemu: return take_qemu();
        default: return Error::invalid("the viewer sent a message of unknown type {}", byte(0));
    }
}

Result<size_t> RfbSession::take_pixel_format() {
    constexpr size_t kSize = 20;
    if (input_.size() < kSize) {
        return 0;
    }
    const auto* bytes = reinterpret_cast<const uint8_t*>(input_.data()) + 4;
    format_ = TRY(parse_rfb_pixel_format(std::span<const uint8_t, 16>(bytes, 16)));
    if (bytes[3] == 0) {
        output_ += rfb_palette();
    }
    dirty_.mark_all();
    return kSize;
}

Result<size_t> RfbSession::take_encodings() {
    constexpr size_t kHeader = 4;
    if (input_.size() < kHeader) {
        return 0;
    }
    const size_t count = u16(2);
    if (count > kEncodingsMax) {
        return Error::too_large("the viewer listed {} encodings; {} are read", count,
                                kEncodingsMax);
    }
    if (input_.size() < kHeader + 4 * count) {
        return 0;
    }
    encodings_.clear();
    for (size_t i = 0; i < count; ++i) {
        encodings_.push_back(static_cast<int32_t>(u32(kHeader + 4 * i)));
    }
    use_encodings();
    return kHeader + 4 * count;
}

// The first encoding of the viewer's list that we have.
void RfbSession::use_encodings() {
    const auto lists = [this](int32_t encoding) {
        return std::find(encodings_.begin(), encodings_.end(), encoding) != encodings_.end();
    };
    const auto first = std::find_if(encodings_.begin(), encodings_.end(), [](int32_t encoding) {
        return encoding == kEncodingRaw || encoding == kEncodingZrle;
    });
    encoding_ =
        first != encodings_.end() && *first == kEncodingZrle ? Encoding::Zrle : Encoding::Raw;
    // noVNC and others list Raw early and mean it as the last resort.
    if (lists(kEncodingZrle)) {
        encoding_ = Encoding::Zrle;
    }
    takes_resize_ = lists(kPseudoDesktopSize);
    takes_extended_keys_ = lists(kPseudoExtendedKeys);
}

Result<size_t> RfbSession::take_update_request() {
    constexpr size_t kSize = 10;
    if (input_.size() < kSize) {
        return 0;
    }
    const bool incremental = byte(1) != 0;
    const ScreenRect area{u16(2), u16(4), u16(6), u16(8)};
    if (!incremental) {
        dirty_.mark(area);
    }
    requested_ = true;
    requested_area_ = area;
    return kSize;
}

void RfbSession::press(uint16_t key, bool down) {
    if (key != 0) {
        input_hub_.key(key, down);
    }
}

Result<size_t> RfbSession::take_key() {
    constexpr size_t kSize = 8;
    if (input_.size() < kSize) {
        return 0;
    }
    press(key_of_keysym(u32(4)), byte(1) != 0);
    return kSize;
}

// §7.5.5: buttons 4 and 5 are the wheel, 6 and 7 the one that tilts.
Result<size_t> RfbSession::take_pointer() {
    constexpr size_t kSize = 6;
    if (input_.size() < kSize) {
        return 0;
    }
    const uint8_t buttons = byte(1);
    const auto pressed = static_cast<uint8_t>(buttons & ~buttons_);
    buttons_ = buttons;
    const auto scale = [](uint32_t position, uint32_t size) {
        return size < 2 ? 0 : std::min(position, size - 1) * kPointerMax / (size - 1);
    };
    PointerState state{scale(u16(2), shown_mode_.width), scale(u16(4), shown_mode_.height)};
    state.left = (buttons & 1) != 0;
    state.middle = (buttons & 2) != 0;
    state.right = (buttons & 4) != 0;
    state.wheel = ((pressed & 8) != 0 ? 1 : 0) - ((pressed & 16) != 0 ? 1 : 0);
    state.horizontal_wheel = ((pressed & 64) != 0 ? 1 : 0) - ((pressed & 32) != 0 ? 1 : 0);
    input_hub_.pointer(state);
    return kSize;
}

// There is no clipboard behind a screen: the text is read over.
Result<size_t> RfbSession::take_clipboard() {
    constexpr size_t kHeader = 8;
    if (input_.size() < kHeader) {
        return 0;
    }
    const auto given = static_cast<int32_t>(u32(4));
    // Negative: the extended clipboard's messages, with that many bytes.
    const uint32_t length = given < 0 ? 0u - static_cast<uint32_t>(given) : u32(4);
    if (length > kClipboardMax) {
        return Error::too_large("the viewer sent {} bytes of clipboard; {} are taken", length,
                                kClipboardMax);
    }
    discard_ = length;
    return kHeader;
}

Result<size_t> RfbSession::take_qemu() {
    constexpr size_t kSize = 12;
    if (input_.size() < 2) {
        return 0;
    }
    if (byte(1) != 0) {
        return Error::invalid("the viewer sent a QEMU message of unknown type {}", byte(1));
    }
    if (input_.size() < kSize) {
        return 0;
    }
    const uint16_t key = key_of_scan_code(u32(8));
    press(key != 0 ? key : key_of_keysym(u32(4)), u16(2) != 0);
    return kSize;
}

// The guest chooses its size; the request is read and nothing follows from it.
Result<size_t> RfbSession::take_desktop_size() {
    constexpr size_t kHeader = 8;
    if (input_.size() < kHeader) {
        return 0;
    }
    const size_t size = kHeader + size_t{16} * byte(6);
    return input_.size() < size ? 0 : size;
}

void RfbSession::screen_changed(const Screen::Change& change) {
    if (phase_ != Phase::Normal) {
        return;
    }
    if (screen_.mode() != shown_mode_) {
        shown_mode_ = screen_.mode();
        dirty_ = TileSet(shown_mode_);
        dirty_.mark_all();
        resize_pending_ = true;
        return;
    }
    dirty_.add(change.tiles);
}

void RfbSession::update() {
    if (!requested_ || phase_ != Phase::Normal) {
        return;
    }
    if (announce_size() || announce_extended_keys()) {
        return;
    }
    std::vector<ScreenRect> rects = dirty_.take(requested_area_, kRectsMax);
    for (ScreenRect& rect : rects) {  // a viewer that cannot resize sees what fits
        rect.width = std::min(rect.x + rect.width, viewer_mode_.width) -
                     std::min(rect.x, viewer_mode_.width);
        rect.height = std::min(rect.y + rect.height, viewer_mode_.height) -
                      std::min(rect.y, viewer_mode_.height);
    }
    std::erase_if(rects,
                  [](const ScreenRect& rect) { return rect.width == 0 || rect.height == 0; });
    if (!rects.empty()) {
        put_pixels(rects);
    }
}

void RfbSession::put_pixels(const std::vector<ScreenRect>& rects) {
    requested_ = false;
    output_.append(2, '\0');  // FramebufferUpdate, padding
    put16(static_cast<uint32_t>(rects.size()), output_);
    for (const ScreenRect& rect : rects) {
        if (encoding_ == Encoding::Zrle) {
            put_rect(rect, kEncodingZrle);
            encode_zrle(screen_, rect, format_, zlib_, output_);
        } else {
            put_rect(rect, kEncodingRaw);
            encode_raw(screen_, rect, format_, output_);
        }
    }
}

// True when an update was sent for it: the viewer has to ask again with its new size. A viewer that
// does not know resizing keeps its old size and sees the part that fits.
bool RfbSession::announce_size() {
    if (!resize_pending_ || !takes_resize_) {
        return false;
    }
    resize_pending_ = false;
    requested_ = false;
    viewer_mode_ = shown_mode_;
    output_.append(2, '\0');
    put16(1, output_);
    put_rect({0, 0, shown_mode_.width, shown_mode_.height}, kPseudoDesktopSize);
    return true;
}

bool RfbSession::announce_extended_keys() {
    if (!takes_extended_keys_ || extended_keys_announced_) {
        return false;
    }
    extended_keys_announced_ = true;
    requested_ = false;
    output_.append(2, '\0');
    put16(1, output_);
    put_rect({0, 0, 0, 0}, kPseudoExtendedKeys);
    return true;
}

void RfbSession::put_rect(const ScreenRect& rect, int32_t encoding) {
    put16(rect.x, output_);
    put16(rect.y, output_);
    put16(rect.width, output_);
    put16(rect.height, output_);
    put32(static_cast<uint32_t>(encoding), output_);
}

}  // namespace kumoi::hypervisor
