// LiveMoves, part one: the door, what comes through it, and notes.
#include "compute/driver/live_moves.h"

#include <algorithm>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kFormat = "kumoi-live-1";

std::string make_key(Random& random) {
    std::string key(link::kKeySize, '\0');
    random.fill(std::as_writable_bytes(std::span(key)));
    return key;
}

Json refusal(const Error& error) {
    return Json::object({{"error", error.message}, {"hint", error.hint}});
}

}  // namespace

LiveMoves::LiveMoves(LiveMoveOptions options, Borders borders)
    : options_(std::move(options)), borders_(std::move(borders)) {}

LiveMoves::~LiveMoves() {
    door_.reset();  // its callbacks use the rest
}

std::shared_ptr<LiveMoves::Server> LiveMoves::server(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Server>& one = servers_[uuid];
    if (!one) {
        one = std::make_shared<Server>();
    }
    return one;
}

LiveProcess LiveMoves::process_of(const LiveFolder& folder, const LiveNote& note) const {
    return {GuestProcess(borders_.process, folder.process(note), borders_.clock), folder,
            borders_.clock};
}

link::RelayOptions LiveMoves::relay_for(const std::string& peer) const {
    link::RelayOptions relay = options_.relay;
    if (relay.files.hosts.empty() && !peer.empty()) {
        relay.files.hosts = {peer};
    }
    return relay;
}

Result<void> LiveMoves::open_door(uint16_t preferred) {
    const std::lock_guard lock(mutex_);
    if (door_) {
        return {};
    }
    link::DoorOptions door;
    door.range = {options_.address, options_.port_first, options_.port_last, preferred};
    door.encryption = options_.encryption;
    door_ = TRY(link::MigrationDoor::open(door, borders_.random));
    log_info("migration", "servers may arrive by live migration",
             {{"address", options_.address}, {"port", door_->port()}});
    return {};
}

void LiveMoves::expect(const LiveFolder& folder, const LiveNote& note) {
    link::MigrationDoor::Expectation expectation;
    expectation.key = note.key;
    const bool arriving = note.role == LiveNote::Role::Destination;
    expectation.streams_max = arriving ? link::kStreamsMax : uint16_t{0};
    expectation.arrived = [this, uuid = folder.uuid(), id = note.id](link::Arrival arrival) {
        arrive(uuid, id, std::move(arrival));
    };
    expectation.answer = [this, uuid = folder.uuid(), id = note.id](const std::string& asked) {
        return answer(uuid, id, asked);
    };
    const std::lock_guard lock(mutex_);
    door_->expect(note.id, std::move(expectation));
}

Result<void> LiveMoves::load() {
    if (!path_exists(options_.instances_path)) {
        return {};
    }
    const std::string arriving = LiveFolder::arriving_suffix(options_.host);
    for (std::string name : TRY(list_directory(options_.instances_path))) {
        if (name.ends_with(arriving)) {
            name.resize(name.size() - arriving.size());
        }
        const LiveFolder folder = folder_of(name);
        for (const auto role : {LiveNote::Role::Source, LiveNote::Role::Destination}) {
            const auto note = folder.read(options_.host, role);
            if (!note.ok() || !*note) {
                continue;
            }
            TRY(open_door((*note)->own_port));
            expect(folder, **note);
        }
    }
    return {};
}

Result<std::string> LiveMoves::invite(const std::string& uuid, const Uuid& migration, bool shared,
                                      std::vector<std::string> copied) {
    TRY(open_door(0));
    const LiveFolder folder = folder_of(uuid);
    LiveNote note;
    note.role = LiveNote::Role::Destination;
    note.id = migration;
    note.key = make_key(borders_.random);
    note.host = options_.host;
    note.shared = shared;
    note.copied = std::move(copied);
    note.own_port = door_->port();
    const auto held = server(uuid);
    const std::lock_guard lock(held->mutex);
    TRY(remove_file(folder.journal(note)));
    TRY(folder.write(note));
    expect(folder, note);
    return Json::object({{"format", kFormat},
                         {"address", options_.address},
                         {"port", note.own_port},
                         {"id", migration.text()},
                         {"key", base64_encode(note.key)}})
        .dump();
}

void LiveMoves::arrive(const std::string& uuid, const Uuid& id, link::Arrival arrival) {
    const LiveFolder folder = folder_of(uuid);
    const auto held = server(uuid);
    const std::lock_guard lock(held->mutex);
    auto note = folder.read(options_.host, LiveNote::Role::Destination);
    if (!note.ok() || !*note || (*note)->id != id) {
        return;
    }
    const auto taken = take_streams(folder, **note, std::move(arrival));
    if (!taken.ok()) {
        log_warn("migration", "the connections of a migration could not be used",
                 {{"server", uuid}, {"why", taken.error().text()}});
    }
}

Result<void> LiveMoves::take_streams(const LiveFolder& folder, LiveNote note,
                                     link::Arrival arrival) {
    const LiveProcess process = process_of(folder, note);
    if (note.verdict != LiveNote::Verdict::Open || !TRY(process.is_alive())) {
        return Error::conflict("no process waits for the guest any more");
    }
    note.round = arrival.round;
    const auto sockets = TRY(link::secure_streams(std::move(arrival.streams), link::TlsRole::Server,
                                                  options_.encryption, relay_for(arrival.peer)));
    if (note.begun) {
        return process.connect(note, sockets);
    }
    note.begun = true;
    TRY(folder.write(note));
    return process.begin(note, sockets, {});
}

std::string LiveMoves::answer(const std::string& uuid, const Uuid& id, const std::string& asked) {
    const auto answered = [&]() -> Result<Json> {
        const LiveFolder folder = folder_of(uuid);
        const Json question = TRY(Json::parse(asked));
        const auto held = server(uuid);
        // A source that follows its migration holds nothing: it may be asked at any time.
        const std::lock_guard lock(held->mutex);
        for (const auto role : {LiveNote::Role::Destination, LiveNote::Role::Source}) {
            auto note = TRY(folder.read(options_.host, role));
            if (note && note->id == id) {
                return answer_question(folder, std::move(*note), question);
            }
        }
        return Error::not_found("migration {} of server {} is not known here", id.text(), uuid);
    }();
    return (answered.ok() ? *answered : refusal(answered.error())).dump();
}

Result<Json> LiveMoves::answer_question(const LiveFolder& folder, LiveNote note,
                                        const Json& question) {
    const std::string op = question.string_or("op");
    const LiveProcess process = process_of(folder, note);
    if (note.role == LiveNote::Role::Source) {
        if (op != "state") {
            return Error::invalid("a source is not asked for {}", op);
        }
        const SourceAgent agent{process, note};
        const SourceWord word = note.verdict == LiveNote::Verdict::Gone
                                    ? SourceWord::Committed
                                    : TRY(agent.word(parse_view(question.string_or("view"))));
        return Json::object({{"word", to_word(word)}});
    }
    if (op == "begin") {
        return answer_begin(folder, std::move(note), question);
    }
    if (op == "verdict") {
        return answer_verdict(folder, note, question.string_or("word"));
    }
    if (op != "state") {
        return Error::invalid("a destination is not asked for {}", op);
    }
    const auto view = note.verdict == LiveNote::Verdict::Here
                          ? migration::DestinationView::Owner
                          : TRY(destination_view(process, note));
    return Json::object({{"view", to_word(view)}});
}

// The source's terms; the machine is there when the answer is.
Result<Json> LiveMoves::answer_begin(const LiveFolder& folder, LiveNote note,
                                     const Json& question) {
    const LiveProcess process = process_of(folder, note);
    if (note.begun || note.verdict != LiveNote::Verdict::Open) {
        return Error::conflict("this migration has begun already");
    }
    note.epoch = static_cast<uint64_t>(question.integer_or("epoch"));
    note.peer.address = question.string_or("address");
    note.peer.port = static_cast<uint16_t>(question.integer_or("port"));
    TRY(folder.write(note));
    if (!TRY(process.is_alive())) {
        const Json* terms = question.find("terms");
        TRY(borders_.start_incoming(folder, note, terms != nullptr ? *terms : Json::object()));
    }
    return Json::object({{"ready", true}});
}

Result<Json> LiveMoves::answer_verdict(const LiveFolder& folder, const LiveNote& note,
                                       const std::string& word) {
    const LiveProcess process = process_of(folder, note);
    if (TRY(process.is_alive()) && note.begun && parse_source_word(word) != SourceWord::Wait) {
        TRY(process.verdict(note, word));
    }
    return Json::object({{"view", to_word(TRY(destination_view(process, note)))}});
}

Result<Json> LiveMoves::ask(const LiveNote& note, const Json& question) const {
    if (note.peer.address.empty()) {
        return Error::unavailable("the other host of the migration is not known yet");
    }
    const std::string text = TRY(
        link::ask_about_migration(note.peer, note.id, note.key, question.dump(), borders_.random));
    Json answer = TRY(Json::parse(text));
    if (const std::string error = answer.string_or("error"); !error.empty()) {
        return Error::conflict("{}", error).with_hint(answer.string_or("hint"));
    }
    return answer;
}

Result<std::optional<LiveNote>> LiveMoves::pending(const std::string& uuid) const {
    auto note = TRY(folder_of(uuid).read(options_.host));
    if (note && note->verdict == LiveNote::Verdict::Here) {
        note.reset();
    }
    return note;
}

Result<void> LiveMoves::conclude(const LiveFolder& folder, LiveNote& note,
                                 LiveNote::Verdict verdict) {
    note.verdict = verdict;
    return folder.write(note);
}

Result<void> LiveMoves::forget(const std::string& uuid) {
    const LiveFolder folder = folder_of(uuid);
    for (const auto role : {LiveNote::Role::Source, LiveNote::Role::Destination}) {
        const auto note = TRY(folder.read(options_.host, role));
        if (!note) {
            continue;
        }
        link::MigrationDoor* door = nullptr;
        {
            const std::lock_guard lock(mutex_);
            door = door_.get();
        }
        if (door != nullptr) {
            door->forget(note->id);
        }
        TRY(folder.remove(*note));
    }
    return {};
}

Result<void> LiveMoves::check_may_start(const std::string& uuid) {
    const auto note = TRY(pending(uuid));
    if (!note) {
        return {};
    }
    const GuestOwner owner = TRY(outcome(uuid));
    if (owner == GuestOwner::Here) {
        return {};
    }
    return Error::conflict("the guest of server {} is {} after its live migration {}", uuid,
                           to_string(owner), note->id.text())
        .with_hint("It must not be started here while another host may run it.")
        .with_fault("InstanceInvalidState");
}

}  // namespace kumoi::compute
