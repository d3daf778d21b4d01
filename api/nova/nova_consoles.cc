#include "api/nova/nova_consoles.h"

#include <charconv>

#include "api/nova/oslo_context.h"
#include "base/log.h"

namespace kumoi::nova {
namespace {

constexpr char kNoVnc[] = "novnc";
constexpr char kSerial[] = "serial";
constexpr uint16_t kVncFirstPort = 5900;
constexpr uint16_t kVncLastPort = 6899;

}  // namespace

struct NovaConsoles::Kind {
    bool vnc = false;
    std::string address;
    std::string base_url;
    api::PortRelays* relays = nullptr;
};

NovaConsoleOptions NovaConsoleOptions::from_config(const Config& config) {
    NovaConsoleOptions options;
    options.vnc_enabled = config.boolean("vnc", "enabled");
    options.vnc_listen = config.string("vnc", "server_listen");
    options.vnc_address = config.string("vnc", "server_proxyclient_address");
    options.serial_enabled =
        config.is_set("serial_console", "enabled") && config.boolean("serial_console", "enabled");
    options.serial_address = config.string("serial_console", "proxyclient_address");
    if (config.is_set("vnc", "novncproxy_base_url")) {
        options.vnc_base_url = config.string("vnc", "novncproxy_base_url");
    }
    if (config.is_set("serial_console", "base_url")) {
        options.serial_base_url = config.string("serial_console", "base_url");
    }
    const std::string range = config.string("serial_console", "port_range");
    if (const auto ports = parse_port_range(range)) {
        std::tie(options.serial_first_port, options.serial_last_port) = *ports;
    } else {
        log_warn("nova", "[serial_console] port_range is no FIRST:END; 10000:20000 is used",
                 {{"port_range", range}});
    }
    options.token_ttl_s = config.integer("consoleauth", "token_ttl");
    return options;
}

NovaConsoles::NovaConsoles(NovaConsoleOptions options, ObjectClient& objects,
                           compute::ComputeApi& manager, const Clock& clock)
    : options_(std::move(options)), objects_(objects), manager_(manager) {
    const int64_t idle_ns = options_.token_ttl_s * kNanosPerSecond;
    if (options_.vnc_enabled) {
        vnc_ = api::PortRelays::start({options_.vnc_listen, kVncFirstPort, kVncLastPort, idle_ns},
                                      clock);
    }
    if (options_.serial_enabled) {
        serial_ = api::PortRelays::start({options_.serial_address, options_.serial_first_port,
                                          options_.serial_last_port, idle_ns},
                                         clock);
    }
}

Result<NovaConsoles::Kind> NovaConsoles::kind_of(const std::string& type) const {
    if (type == kNoVnc && vnc_) {
        return Kind{true, options_.vnc_address, options_.vnc_base_url, vnc_.get()};
    }
    if (type == kSerial && serial_) {
        return Kind{false, options_.serial_address, options_.serial_base_url, serial_.get()};
    }
    if (type == kNoVnc || type == kSerial || type == "spice-html5" || type == "webmks" ||
        type == "rdp-html5") {
        return Error::unsupported("Unavailable console type {}.", type)
            .with_fault("ConsoleTypeUnavailable");
    }
    return Error::invalid("Invalid console type {}", type).with_fault("ConsoleTypeInvalid");
}

Result<Json> NovaConsoles::connect(const Json& context, const std::string& uuid,
                                   const std::string& console_type) {
    const Kind kind = TRY(kind_of(console_type));
    const compute::RequestContext request = request_context(context);
    const auto console = TRY(kind.vnc ? manager_.get_vnc_console(request, uuid)
                                      : manager_.get_serial_console(request, uuid));
    const uint16_t port = TRY(kind.relays->open(uuid, console.socket));
    NovaObject token = NovaObject::make(objects_.table(), "ConsoleAuthToken");
    token.set("console_type", console_type);
    token.set("host", kind.address);
    token.set("port", port);
    token.set("internal_access_path", nullptr);
    token.set("instance_uuid", uuid);
    token.set("access_url_base", kind.base_url);
    Json::Array args;
    args.emplace_back(options_.token_ttl_s);
    const Json secret =
        TRY(objects_.action(elevated(context), token, "authorize", std::move(args)));
    const std::string text = secret.is_string() ? secret.as_string() : token.text("token");
    if (text.empty()) {
        return Error::invalid("nova-conductor authorized a console without a token");
    }
    return Json::object({{"host", kind.address},
                         {"port", port},
                         {"internal_access_path", nullptr},
                         {"token", text},
                         {"access_url", console_url(kind.base_url, console_type, text)}});
}

bool NovaConsoles::is_valid(const std::string& uuid, const std::string& port,
                            const std::string& console_type) {
    const auto kind = kind_of(console_type);
    const auto open = kind.ok() ? kind->relays->port_of(uuid) : std::nullopt;
    return open && std::to_string(*open) == port;
}

std::optional<std::pair<uint16_t, uint16_t>> parse_port_range(std::string_view text) {
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) {
        return std::nullopt;
    }
    const auto number = [](std::string_view digits) {
        uint32_t value = 0;
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), value);
        return error == std::errc{} && end == digits.data() + digits.size() ? value : 0;
    };
    const uint32_t first = number(text.substr(0, colon));
    const uint32_t end = number(text.substr(colon + 1));
    if (first == 0 || end <= first || end > 65536) {
        return std::nullopt;
    }
    return std::pair(static_cast<uint16_t>(first), static_cast<uint16_t>(end - 1));
}

std::string console_url(const std::string& base, const std::string& console_type,
                        const std::string& token) {
    const char joint = base.find('?') == std::string::npos ? '?' : '&';
    return console_type == kNoVnc ? fmt::format("{}{}path=%3Ftoken%3D{}", base, joint, token)
                                  : fmt::format("{}{}token={}", base, joint, token);
}

}  // namespace kumoi::nova
