// ConsoleAuth: addresses of consoles with a token in them, and what a token opens (Nova's
// ConsoleAuthToken and nova-consoleauth before it).
//
//     const RemoteConsole console = TRY(auth.get_vnc_console(context, uuid, "novnc"));
//     // console.url: http://cloud:6080/vnc_auto.html?path=%3Ftoken%3D...
//     const ConsoleToken token = TRY(auth.validate(secret));      // the proxy, once a connection
//
// A token is 256 random bits; the database has only its SHA-256, and the console it opens until it
// expires. The server must still be where it was then. Any thread; may block for the database.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/config.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/conductor/conductor.h"
#include "compute/conductor/database.h"
#include "compute/manager/console.h"

namespace kumoi::compute {

struct ConsoleOptions {
    bool vnc_enabled = true;
    bool serial_enabled = true;
    std::string novnc_base_url;   // "http://cloud:6080/vnc_auto.html"
    std::string serial_base_url;  // "ws://cloud:6080/"
    int64_t token_ttl_s = 600;

    // `proxy_uri`: "http://host:port" of this process's proxy, for addresses nobody configured.
    static ConsoleOptions from_config(const Config& config, const std::string& proxy_uri);
};

struct RemoteConsole {
    std::string protocol;  // "vnc", "serial"
    std::string type;      // "novnc", "serial"
    std::string url;
};

struct ConsoleToken {
    std::string instance_uuid;
    std::string type;
    std::string access_url_base;
    ConsoleConnection connection;
};

class ConsoleAuth {
public:
    static constexpr int64_t kTokensMax = 1000;  // of one server; the oldest go

    static Result<std::unique_ptr<ConsoleAuth>> create(ConsoleOptions options, Database& database,
                                                       const Clock& clock, Random& random,
                                                       Conductor& conductor);

    // ConsoleTypeUnavailable, ConsoleTypeInvalid, InstanceNotReady.
    Result<RemoteConsole> get_vnc_console(const RequestContext& context, const std::string& uuid,
                                          const std::string& type);
    Result<RemoteConsole> get_serial_console(const RequestContext& context, const std::string& uuid,
                                             const std::string& type);
    // NotFound: unknown, expired, or the server has gone from there.
    Result<ConsoleToken> validate(std::string_view token);

private:
    ConsoleAuth(ConsoleOptions options, Database& database, const Clock& clock, Random& random,
                Conductor& conductor);
    Result<std::string> authorize(const std::string& uuid, const std::string& type,
                                  const std::string& url_base, const ConsoleConnection& connection);

    const ConsoleOptions options_;
    Database& database_;
    const Clock& clock_;
    Random& random_;
    Conductor& conductor_;
};

}  // namespace kumoi::compute
