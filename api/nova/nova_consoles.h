// NovaConsoles: consoles of this node's servers as Nova grants them: a TCP port of this host, and a
// ConsoleAuthToken in nova-conductor that lets nova-novncproxy or nova-serialproxy connect to it.
// Nova's get_vnc_console, get_serial_console and validate_console_port. Any thread; blocks.
#pragma once

#include <memory>
#include <string>

#include "api/console/port_relays.h"
#include "api/nova/compute_endpoint.h"
#include "base/config.h"

namespace kumoi::nova {

struct NovaConsoleOptions {
    bool vnc_enabled = true;
    std::string vnc_listen = "127.0.0.1";   // [vnc] server_listen
    std::string vnc_address = "127.0.0.1";  // [vnc] server_proxyclient_address
    std::string vnc_base_url = "http://127.0.0.1:6080/vnc_auto.html";
    bool serial_enabled = false;
    std::string serial_address = "127.0.0.1";  // [serial_console] proxyclient_address
    std::string serial_base_url = "ws://127.0.0.1:6083/";
    uint16_t serial_first_port = 10000;  // [serial_console] port_range
    uint16_t serial_last_port = 19999;
    int64_t token_ttl_s = 600;

    static NovaConsoleOptions from_config(const Config& config);
};

class NovaConsoles final : public ConsolePorts {
public:
    NovaConsoles(NovaConsoleOptions options, ObjectClient& objects, compute::ComputeApi& manager,
                 const Clock& clock);

    Result<Json> connect(const Json& context, const std::string& uuid,
                         const std::string& console_type) override;
    bool is_valid(const std::string& uuid, const std::string& port,
                  const std::string& console_type) override;

private:
    struct Kind;
    Result<Kind> kind_of(const std::string& console_type) const;

    const NovaConsoleOptions options_;
    ObjectClient& objects_;
    compute::ComputeApi& manager_;
    std::unique_ptr<api::PortRelays> vnc_;
    std::unique_ptr<api::PortRelays> serial_;
};

// "FIRST:END" as first and last port (END - 1); nothing where it is no range of ports.
std::optional<std::pair<uint16_t, uint16_t>> parse_port_range(std::string_view text);

// base?path=%3Ftoken%3D... for noVNC, base?token=... for serial lines; a query that is there stays.
std::string console_url(const std::string& base, const std::string& console_type,
                        const std::string& token);

}  // namespace kumoi::nova
