#include "migration/migration_request.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "hypervisor/sandbox/thread_class.h"

namespace kumoi::migration {

namespace {

constexpr std::string_view kConnect = "connect:";

Result<Uuid> parse_id(const JsonView& view) {
    const std::string text = TRY(view.string("id"));
    const auto id = Uuid::parse(text);
    if (!id) {
        return Error::invalid("params.id: \"{}\" is not a UUID", text);
    }
    return *id;
}

Result<std::vector<std::string>> parse_names(const JsonView& view, std::string_view key) {
    std::vector<std::string> names;
    for (const JsonView& item : TRY(view.array(key))) {
        names.push_back(TRY(item.as_string()));
    }
    return names;
}

Result<CopyJob::Options> parse_options(const JsonView& view, MigrationRequest& request) {
    TRY(view.only({"downtime_ms", "bandwidth_bytes_s", "throttle_max_percent", "auto_converge",
                   "post_copy", "compress", "free_page_hints", "dirty_limit_bytes_s"}));
    constexpr int64_t kDowntimeMaxMs = 3'600'000;
    constexpr int64_t kThrottleMax = 99;
    CopyJob::Options options;
    options.goal.downtime_ns =
        TRY(view.integer_or("downtime_ms", 300, {1, kDowntimeMaxMs})) * kNanosPerMilli;
    options.bandwidth =
        static_cast<uint64_t>(TRY(view.integer_or("bandwidth_bytes_s", 0, {0, INT64_MAX})));
    options.goal.throttle_max = static_cast<unsigned>(
        TRY(view.integer_or("throttle_max_percent", kThrottleMax, {0, kThrottleMax})));
    options.goal.may_throttle = TRY(view.boolean_or("auto_converge", true));
    const std::string post_copy = TRY(view.string_or("post_copy", "never"));
    if (post_copy != "never" && post_copy != "allowed" && post_copy != "automatic") {
        return Error::invalid("params.options.post_copy: \"{}\" is not never, allowed or automatic",
                              post_copy);
    }
    request.post_copy = post_copy != "never";
    request.dirty_limit =
        static_cast<uint64_t>(TRY(view.integer_or("dirty_limit_bytes_s", 0, {0, INT64_MAX})));
    request.free_page_hints = TRY(view.boolean_or("free_page_hints", true));
    options.goal.may_post_copy = post_copy == "automatic";
    const std::string compress = TRY(view.string_or("compress", "none"));
    if (compress != "none" && compress != "zstd" && compress != "delta" &&
        compress != "delta+zstd") {
        return Error::invalid(
            "params.options.compress: \"{}\" is not none, zstd, delta or delta+zstd", compress);
    }
    options.compress = compress.ends_with("zstd");
    options.delta = compress.starts_with("delta");
    return options;
}

}  // namespace

Result<MigrationRequest> MigrationRequest::parse(const Json& params, HandoverRole role) {
    const JsonView view(params, "params");
    MigrationRequest request;
    if (role == HandoverRole::Source) {
        TRY(view.only({"id", "journal", "epoch", "copied", "connections", "options"}));
        if (view.has("options")) {
            request.options = TRY(parse_options(TRY(view.object("options")), request));
        }
    } else {
        TRY(view.only({"id", "journal", "epoch", "copied", "connections"}));
    }
    request.id = TRY(parse_id(view));
    request.journal = TRY(view.string("journal"));
    request.epoch = static_cast<uint64_t>(TRY(view.integer_or("epoch", 0, {0, INT64_MAX - 2})));
    if (view.has("copied")) {
        request.copied = TRY(parse_names(view, "copied"));
    }
    request.connections = TRY(parse_names(view, "connections"));
    if (request.connections.size() < 2 || request.connections.size() > kStreamsMax + 1) {
        return Error::invalid(
            "params.connections: {} were given; a control stream and 1 to {} data streams are "
            "needed",
            request.connections.size(), kStreamsMax);
    }
    return request;
}

Result<ReconnectRequest> ReconnectRequest::parse(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"id", "connections"}));
    ReconnectRequest request;
    request.id = TRY(parse_id(view));
    request.connections = TRY(parse_names(view, "connections"));
    if (request.connections.empty() || request.connections.size() > kStreamsMax + 1) {
        return Error::invalid("params.connections: {} were given, not 1 to {}",
                              request.connections.size(), kStreamsMax + 1);
    }
    return request;
}

Result<VerdictRequest> VerdictRequest::parse(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"id", "view", "lease_epoch"}));
    VerdictRequest request;
    request.id = TRY(parse_id(view));
    const std::string word = TRY(view.string("view"));
    if (word == "aborted") {
        request.view = View::Aborted;
    } else if (word == "declined") {
        request.view = View::Declined;
    } else if (word == "owner") {
        request.view = View::Owner;
    } else if (word == "fenced") {
        request.view = View::Fenced;
    } else if (word != "committed") {
        return Error::invalid(
            "params.view: \"{}\" is not committed, aborted, declined, owner or fenced", word);
    }
    request.lease_epoch =
        static_cast<uint64_t>(TRY(view.integer_or("lease_epoch", 0, {0, INT64_MAX})));
    return request;
}

Result<std::vector<std::unique_ptr<StreamSocket>>> take_connections(
    hypervisor::FileSource& files, const std::vector<std::string>& names) {
    std::vector<std::unique_ptr<StreamSocket>> sockets;
    for (const std::string& name : names) {
        const bool prefixed = name.starts_with(kConnect);
        UniqueFd fd = TRY(files.connect(prefixed ? name.substr(kConnect.size()) : name));
        auto socket = TRY_CONTEXT(StreamSocket::adopt(std::move(fd)), "{}", name);
        sockets.push_back(std::move(socket));
    }
    return sockets;
}

// A sandboxed process was given the file locked; any other locks it.
Result<HandoverJournal> take_journal(hypervisor::FileSource& files, const std::string& path,
                                     const HandoverTerms& terms, const Clock& clock) {
    UniqueFd file = TRY_CONTEXT(files.open(path, O_RDWR | O_CREAT, 0600), "the journal");
    if (!hypervisor::seccomp_closed() && flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        return Error::conflict("the journal of a handover {} is held by a living process", path)
            .with_hint("wait for that migration to end, or abort it");
    }
    return HandoverJournal::adopt(std::move(file), terms, clock);
}

Result<void> VerdictRequest::apply(SourceHandover& handover) const {
    switch (view) {
        case View::Declined: handover.peer_declined(); return {};
        case View::Owner: handover.peer_owns(); return {};
        case View::Fenced: handover.peer_fenced(lease_epoch); return {};
        default: return Error::invalid("params.view: a source's peer is declined, owner or fenced");
    }
}

Result<void> VerdictRequest::apply(DestinationHandover& handover) const {
    switch (view) {
        case View::Committed: handover.peer_committed(); return {};
        case View::Aborted: handover.peer_aborted(); return {};
        case View::Fenced: handover.peer_fenced(); return {};
        default:
            return Error::invalid(
                "params.view: a destination's peer is committed, aborted or fenced");
    }
}

}  // namespace kumoi::migration
