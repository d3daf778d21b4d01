#include "hypervisor/display/display_config.h"

#include <bit>
#include <charconv>
#include <filesystem>

#include "hypervisor/display/display_source.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kListensMax = 8;

Result<std::string> path_or_none(const JsonView& view, std::string_view key,
                                 const std::string& base) {
    if (!view.has(key)) {
        return std::string();
    }
    const std::string path = TRY(view.string(key));
    if (path.empty() || path.find('\0') != std::string::npos) {
        return TRY(view.at(key)).error("expected a path");
    }
    return path.front() == '/' ? path
                               : (std::filesystem::path(base) / path).lexically_normal().string();
}

// "127.0.0.1:5901" or "[::1]:5901".
Result<void> parse_address(const JsonView& view, VncListen& listen) {
    const std::string text = TRY(view.string("listen"));
    const size_t colon = text.rfind(':');
    const char* port = text.data() + (colon == std::string::npos ? text.size() : colon + 1);
    const auto [end, error] = std::from_chars(port, text.data() + text.size(), listen.port);
    if (colon == std::string::npos || colon == 0 || error != std::errc() ||
        end != text.data() + text.size()) {
        return TRY(view.at("listen"))
            .error(fmt::format("\"{}\" is no address and port like 127.0.0.1:5901", text));
    }
    listen.host = text.substr(0, colon);
    if (listen.host.front() == '[' && listen.host.back() == ']') {
        listen.host = listen.host.substr(1, listen.host.size() - 2);
    }
    return {};
}

Result<VncListen> parse_listen(const JsonView& view, const std::string& base) {
    TRY(view.only({"socket", "listen", "websocket"}));
    VncListen listen;
    listen.websocket = TRY(view.boolean_or("websocket", false));
    listen.socket = TRY(path_or_none(view, "socket", base));
    if (view.has("listen") == !listen.socket.empty()) {
        return view.error("either \"socket\" or \"listen\" says where viewers connect");
    }
    if (view.has("listen")) {
        TRY(parse_address(view, listen));
    }
    return listen;
}

}  // namespace

Result<DisplayConfig> parse_display(const JsonView& view, const std::string& base) {
    TRY(view.only({"width", "height", "memory_mib", "tablet", "keyboard", "vgabios", "vnc"}));
    DisplayConfig display;
    display.enabled = true;
    display.width =
        static_cast<uint32_t>(TRY(view.integer_or("width", 1280, {64, kDisplayWidthMax})));
    display.height =
        static_cast<uint32_t>(TRY(view.integer_or("height", 800, {64, kDisplayHeightMax})));
    display.memory_mib = static_cast<uint32_t>(TRY(view.integer_or("memory_mib", 16, {1, 64})));
    if (!std::has_single_bit(display.memory_mib)) {
        return TRY(view.at("memory_mib"))
            .error(fmt::format("{} is no power of two", display.memory_mib));
    }
    const uint64_t picture = uint64_t{4} * display.width * display.height;
    if (picture > uint64_t{display.memory_mib} << 20) {
        return view.error(fmt::format("{} x {} pixels need {} bytes; memory_mib gives {}",
                                      display.width, display.height, picture,
                                      uint64_t{display.memory_mib} << 20));
    }
    display.tablet = TRY(view.boolean_or("tablet", true));
    display.keyboard = TRY(view.boolean_or("keyboard", true));
    display.vgabios = TRY(path_or_none(view, "vgabios", base));
    if (view.has("vnc")) {
        for (const JsonView& item : TRY(view.array("vnc"))) {
            display.vnc.push_back(TRY(parse_listen(item, base)));
        }
    }
    if (display.vnc.size() > kListensMax) {
        return view.error(fmt::format("{} places to connect to; {} are possible",
                                      display.vnc.size(), kListensMax));
    }
    return display;
}

}  // namespace kumoi::hypervisor
