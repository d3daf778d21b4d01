#include "compute/driver/disk_transfer.h"

#include <array>
#include <charconv>
#include <chrono>
#include <thread>

#include "base/encoding.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/uuid.h"
#include "migration/link/tcp.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kFormat = "kumoi-folder-1";
constexpr std::string_view kSentEnding = ".sent.json";
constexpr size_t kNoteMax = 64u << 10;
constexpr int64_t kConnectTimeoutMs = 10'000;
constexpr int64_t kPortMax = 65535;

std::string make_secret(Random& random) {
    std::array<std::byte, transfer::kSecretSize> bytes{};
    random.fill(bytes);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What a disk_info of ours says. It comes from another host over RPC.
struct Ticket {
    std::string identity;
    std::string secret;
    std::string address;
    uint16_t port = 0;
};

Result<Ticket> parse_ticket(const std::string& text) {
    const Json json = TRY(Json::parse(text, {kNoteMax, 8}));
    if (json.string_or("format") != kFormat) {
        return Error::unsupported("the disk_info of this move is not of a kumoi node")
            .with_fault("InvalidDiskInfo");
    }
    const JsonView view(json);
    Ticket ticket;
    ticket.identity = TRY(view.string("identity"));
    ticket.address = TRY(view.string("address"));
    ticket.port = static_cast<uint16_t>(TRY(view.integer("port", {1, kPortMax})));
    const auto secret = base64_decode(TRY(view.string("key")));
    if (!secret || secret->size() != transfer::kSecretSize) {
        return Error::corrupt("the key in the disk_info of this move is damaged")
            .with_fault("InvalidDiskInfo");
    }
    ticket.secret = *secret;
    return ticket;
}

std::string ticket_text(const Ticket& ticket) {
    return Json::object({{"format", kFormat},
                         {"identity", ticket.identity},
                         {"key", base64_encode(ticket.secret)},
                         {"address", ticket.address},
                         {"port", ticket.port}})
        .dump();
}

std::optional<uint16_t> parse_port(std::string_view text) {
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(port)
                                                                    : std::nullopt;
}

}  // namespace

Result<DiskTransferOptions> DiskTransferOptions::from_config(const Config& config,
                                                             const std::string& instances_path) {
    DiskTransferOptions options;
    options.folder = instances_path + "/_moves";
    options.address = config.string("DEFAULT", "my_ip");
    const std::string range = config.string("kumoi", "migration_ports");
    const size_t dash = range.find('-');
    const auto first = parse_port(std::string_view(range).substr(0, dash));
    const auto last =
        dash == std::string::npos ? first : parse_port(std::string_view(range).substr(dash + 1));
    if (!first || !last || *last < *first) {
        return Error::invalid("[kumoi] migration_ports is '{}', not a range of ports", range)
            .with_hint("Write it as first-last, as 49152-49215.");
    }
    options.port_first = *first;
    options.port_last = *last;
    return options;
}

DiskTransfer::DiskTransfer(DiskTransferOptions options, const Clock& clock, Random& random,
                           std::function<void(int64_t nanoseconds)> wait)
    : options_(std::move(options)),
      clock_(clock),
      random_(random),
      wait_(wait ? std::move(wait) : [](int64_t nanoseconds) {
          std::this_thread::sleep_for(std::chrono::nanoseconds(nanoseconds));
      }) {}

Result<void> DiskTransfer::start_server(uint16_t preferred) {
    if (server_) {
        return {};
    }
    transfer::FolderServerOptions options;
    options.address = options_.address;
    options.port_first = options_.port_first;
    options.port_last = options_.port_last;
    server_ = TRY(transfer::FolderServer::start(options, clock_, preferred));
    log_info("driver", "folders of servers that move are offered",
             {{"address", options_.address}, {"port", server_->port()}});
    return {};
}

Result<void> DiskTransfer::load(const FilesOf& files) {
    if (!path_exists(options_.folder)) {
        return {};
    }
    for (const std::string& name : TRY(list_directory(options_.folder))) {
        if (!name.ends_with(kSentEnding)) {
            continue;
        }
        const std::string path = options_.folder + "/" + name;
        const auto text = read_file(path, kNoteMax);
        const auto json = text.ok() ? Json::parse(*text) : Result<Json>(text.error());
        const std::string folder = json.ok() ? json->string_or("folder") : "";
        auto ticket = parse_ticket(json.ok() ? json->string_or("ticket") : "");
        if (!ticket.ok() || !path_exists(folder)) {
            TRY(remove_file(path));  // of a move that is over
            continue;
        }
        auto names = TRY(files(folder));
        const std::lock_guard lock(mutex_);
        TRY(start_server(ticket->port));
        server_->offer({ticket->identity, ticket->secret, folder, std::move(names)});
    }
    return {};
}

Result<std::string> DiskTransfer::offer(const std::string& uuid, const std::string& migration_uuid,
                                        const std::string& folder, std::vector<std::string> files) {
    const std::lock_guard lock(mutex_);
    const auto noted = read_file(sent_note(uuid), kNoteMax);
    const auto json = noted.ok() ? Json::parse(*noted) : Result<Json>(noted.error());
    auto ticket = parse_ticket(json.ok() ? json->string_or("ticket") : "");
    const bool again = ticket.ok() && ticket->identity == migration_uuid;
    TRY(start_server(again ? ticket->port : uint16_t{0}));
    if (!again) {
        ticket = Ticket{migration_uuid, make_secret(random_), options_.address, server_->port()};
    }
    ticket->port = server_->port();
    const std::string text = ticket_text(*ticket);
    TRY(make_directories(options_.folder, 0700));
    TRY(write_file_atomic(sent_note(uuid),
                          Json::object({{"folder", folder}, {"ticket", text}}).dump(), 0600));
    server_->offer({ticket->identity, ticket->secret, folder, std::move(files)});
    return text;
}

void DiskTransfer::withdraw(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    const auto noted = read_file(sent_note(uuid), kNoteMax);
    const auto json = noted.ok() ? Json::parse(*noted) : Result<Json>(noted.error());
    const auto ticket = parse_ticket(json.ok() ? json->string_or("ticket") : "");
    if (server_ && ticket.ok()) {
        server_->withdraw(ticket->identity);
    }
    (void)remove_file(sent_note(uuid));
}

Result<transfer::PullReport> DiskTransfer::receive(const std::string& uuid,
                                                   const std::string& disk_info,
                                                   const std::string& folder) {
    std::string text = disk_info;
    if (text.empty()) {
        text = TRY_CONTEXT(read_file(wanted_note(uuid), kNoteMax),
                           "going on with a transfer from before the restart");
    }
    const Ticket ticket = TRY(parse_ticket(text));
    TRY(make_directories(options_.folder, 0700));
    TRY(write_file_atomic(wanted_note(uuid), text, 0600));
    transfer::PullOptions options;
    options.identity = ticket.identity;
    options.secret = ticket.secret;
    options.folder = folder;
    options.attempts_max = options_.attempts_max;
    transfer::FolderClient client(
        {clock_,
         [&ticket] { return link::connect_tcp(ticket.address, ticket.port, kConnectTimeoutMs); },
         wait_},
        options);
    return client.pull();
}

void DiskTransfer::forget(const std::string& uuid) {
    (void)remove_file(wanted_note(uuid));
}

}  // namespace kumoi::compute
