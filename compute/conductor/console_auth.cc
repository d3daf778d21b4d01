#include "compute/conductor/console_auth.h"

#include <array>

#include "base/digest.h"
#include "base/log.h"

namespace kumoi::compute {

namespace {

constexpr char kNoVnc[] = "novnc";
constexpr char kSerial[] = "serial";
constexpr size_t kTokenBytes = 32;
constexpr size_t kTokenTextMax = 128;

const std::vector<std::string>& schema() {
    static const std::vector<std::string> statements = {
        "CREATE TABLE console_auth_tokens("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, token_hash TEXT NOT NULL UNIQUE,"
        "instance_uuid TEXT NOT NULL, console_type TEXT NOT NULL, access_url_base TEXT NOT NULL,"
        "host TEXT NOT NULL, socket TEXT NOT NULL, expires_ns INTEGER NOT NULL)",
        "CREATE INDEX console_auth_tokens_server ON console_auth_tokens(instance_uuid, id)",
        "CREATE INDEX console_auth_tokens_expiry ON console_auth_tokens(expires_ns)",
    };
    return statements;
}

Error unavailable(std::string_view type, std::string_view option) {
    return Error::invalid("Unavailable console type {}.", type)
        .with_hint(fmt::format("The operator turned it off with {}.", option))
        .with_fault("ConsoleTypeUnavailable");
}

Error wrong_type(const std::string& type, std::string_view possible) {
    return Error::invalid("Invalid console type {}", type)
        .with_hint(fmt::format("The possible type is {}.", possible))
        .with_fault("ConsoleTypeInvalid");
}

Error no_such_token() {
    return Error::not_found("Token not found").with_hint("Ask for a new console address.");
}

std::string hex(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte byte : bytes) {
        text += fmt::format("{:02x}", static_cast<unsigned>(byte));
    }
    return text;
}

}  // namespace

ConsoleOptions ConsoleOptions::from_config(const Config& config, const std::string& proxy_uri) {
    const auto address = [&](const std::string& section, const std::string& option,
                             const std::string& otherwise) {
        const std::string value = config.string(section, option);
        return value.empty() ? otherwise : value;
    };
    ConsoleOptions options;
    options.vnc_enabled = config.boolean("vnc", "enabled");
    options.serial_enabled = config.boolean("serial_console", "enabled");
    options.novnc_base_url = address("vnc", "novncproxy_base_url", proxy_uri + "/vnc_lite.html");
    options.serial_base_url =
        address("serial_console", "base_url", "ws" + proxy_uri.substr(4) + "/");
    options.token_ttl_s = config.integer("consoleauth", "token_ttl");
    return options;
}

ConsoleAuth::ConsoleAuth(ConsoleOptions options, Database& database, const Clock& clock,
                         Random& random, Conductor& conductor)
    : options_(std::move(options)),
      database_(database),
      clock_(clock),
      random_(random),
      conductor_(conductor) {}

Result<std::unique_ptr<ConsoleAuth>> ConsoleAuth::create(ConsoleOptions options, Database& database,
                                                         const Clock& clock, Random& random,
                                                         Conductor& conductor) {
    TRY(database.migrate("console_auth", schema()));
    return std::unique_ptr<ConsoleAuth>(
        new ConsoleAuth(std::move(options), database, clock, random, conductor));
}

Result<RemoteConsole> ConsoleAuth::get_vnc_console(const RequestContext& context,
                                                   const std::string& uuid,
                                                   const std::string& type) {
    if (!options_.vnc_enabled) {
        return unavailable(type, "[vnc] enabled");
    }
    if (type != kNoVnc) {
        return wrong_type(type, kNoVnc);
    }
    const ConsoleConnection connection = TRY(conductor_.vnc_console(context, uuid));
    const std::string token = TRY(authorize(uuid, type, options_.novnc_base_url, connection));
    // noVNC takes the path of its WebSocket from the address: "?token=...", escaped.
    return RemoteConsole{"vnc", type,
                         fmt::format("{}?path=%3Ftoken%3D{}", options_.novnc_base_url, token)};
}

Result<RemoteConsole> ConsoleAuth::get_serial_console(const RequestContext& context,
                                                      const std::string& uuid,
                                                      const std::string& type) {
    if (!options_.serial_enabled) {
        return unavailable(type, "[serial_console] enabled");
    }
    if (type != kSerial) {
        return wrong_type(type, kSerial);
    }
    const ConsoleConnection connection = TRY(conductor_.serial_console(context, uuid));
    const std::string token = TRY(authorize(uuid, type, options_.serial_base_url, connection));
    return RemoteConsole{"serial", type,
                         fmt::format("{}?token={}", options_.serial_base_url, token)};
}

Result<std::string> ConsoleAuth::authorize(const std::string& uuid, const std::string& type,
                                           const std::string& url_base,
                                           const ConsoleConnection& connection) {
    std::array<std::byte, kTokenBytes> secret;
    random_.fill(secret);
    std::string token = hex(secret);
    const int64_t now = clock_.wall_ns();
    // Relaxed: after a power cut the guest runs anew, too, and a new address is asked for.
    TRY(database_.write_relaxed([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM console_auth_tokens WHERE expires_ns <= ?", now));
        TRY(
            sql.run("INSERT INTO console_auth_tokens(token_hash, instance_uuid, console_type, "
                    "access_url_base, host, socket, expires_ns) VALUES(?, ?, ?, ?, ?, ?, ?)",
                    digest_hex(DigestKind::Sha256, token), uuid, type, url_base, connection.host,
                    connection.socket, now + options_.token_ttl_s * kNanosPerSecond));
        TRY(
            sql.run("DELETE FROM console_auth_tokens WHERE instance_uuid = ? AND id <= ("
                    "SELECT id FROM console_auth_tokens WHERE instance_uuid = ? "
                    "ORDER BY id DESC LIMIT 1 OFFSET ?)",
                    uuid, uuid, kTokensMax));
        return {};
    }));
    return token;
}

Result<ConsoleToken> ConsoleAuth::validate(std::string_view token) {
    if (token.empty() || token.size() > kTokenTextMax) {
        return no_such_token();
    }
    const std::string hash = digest_hex(DigestKind::Sha256, token);
    const auto row = TRY(database_.read([&](SqlSession& sql) {
        return sql.query_one(
            "SELECT instance_uuid, console_type, access_url_base, host, socket, "
            "expires_ns FROM console_auth_tokens WHERE token_hash = ?",
            hash);
    }));
    if (!row || row->integer(5) <= clock_.wall_ns()) {
        return no_such_token();
    }
    const InstancePtr server = conductor_.instances().find(row->text(0));
    if (server == nullptr || server->instance.host != row->text(3)) {
        log_info("console", "a token of a server that has gone", {{"server", row->text(0)}});
        return no_such_token();
    }
    return ConsoleToken{row->text(0), row->text(1), row->text(2), {row->text(3), row->text(4)}};
}

}  // namespace kumoi::compute
