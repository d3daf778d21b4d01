#include "compute/driver/live_note.h"

#include <algorithm>

#include "base/encoding.h"
#include "base/file.h"
#include "base/json.h"

namespace kumoi::compute {
namespace {

constexpr size_t kNoteMax = 64u << 10;
using Role = LiveNote::Role;
using Verdict = LiveNote::Verdict;

const char* word(Verdict verdict) {
    switch (verdict) {
        case Verdict::Open: return "open";
        case Verdict::Here: return "here";
        case Verdict::Gone: return "gone";
    }
    return "open";
}

Verdict parse_verdict(const std::string& text) {
    return text == "here" ? Verdict::Here : text == "gone" ? Verdict::Gone : Verdict::Open;
}

}  // namespace

std::string LiveNote::text() const {
    return Json::object({{"format", 1},
                         {"role", role == Role::Source ? "source" : "destination"},
                         {"verdict", word(verdict)},
                         {"id", id.text()},
                         {"key", base64_encode(key)},
                         {"host", host},
                         {"shared", shared},
                         {"begun", begun},
                         {"epoch", epoch},
                         {"round", round},
                         {"streams", streams},
                         {"own_port", own_port},
                         {"peer_address", peer.address},
                         {"peer_port", peer.port},
                         {"copied", Json::array_of(copied)}})
        .dump_pretty();
}

Result<LiveNote> LiveNote::parse(const std::string& text) {
    const Json json = TRY(Json::parse(text));
    const auto id = Uuid::parse(json.string_or("id"));
    const auto key = base64_decode(json.string_or("key"));
    if (!id || !key || key->size() != link::kKeySize || json.integer_or("format") != 1) {
        return Error::corrupt("this is no note of a live migration");
    }
    LiveNote note;
    note.role = json.string_or("role") == "source" ? Role::Source : Role::Destination;
    note.verdict = parse_verdict(json.string_or("verdict"));
    note.id = *id;
    note.key = *key;
    note.host = json.string_or("host");
    note.shared = json.bool_or("shared");
    note.begun = json.bool_or("begun");
    note.epoch = static_cast<uint64_t>(json.integer_or("epoch"));
    note.round = static_cast<uint32_t>(json.integer_or("round"));
    note.streams = static_cast<uint16_t>(json.integer_or("streams", 1));
    note.own_port = static_cast<uint16_t>(json.integer_or("own_port"));
    note.peer.address = json.string_or("peer_address");
    note.peer.port = static_cast<uint16_t>(json.integer_or("peer_port"));
    if (const Json* copied = json.find("copied"); copied != nullptr && copied->is_array()) {
        for (const Json& disk : copied->as_array()) {
            note.copied.push_back(disk.is_string() ? disk.as_string() : "");
        }
    }
    return note;
}

LiveFolder::LiveFolder(std::string instances_path, std::string uuid, const std::string& host)
    : instances_path_(std::move(instances_path)),
      uuid_(std::move(uuid)),
      suffix_(arriving_suffix(host)) {}

std::string LiveFolder::arriving_suffix(const std::string& host) {
    std::string suffix = "_arriving_" + host;
    std::ranges::replace(suffix, '/', '_');
    return suffix;
}

InstanceFolder LiveFolder::process(const LiveNote& note) const {
    return note.role == Role::Destination && note.shared ? arriving() : server();
}

std::string LiveFolder::journal(const LiveNote& note) const {
    const char* name = note.role == Role::Source ? "/departure.journal" : "/arrival.journal";
    return process(note).path() + name;
}

std::string LiveFolder::note_path(Role role, bool apart) const {
    const std::string folder = (apart ? arriving() : server()).path();
    return folder + (role == Role::Source ? "/departure.json" : "/arrival.json");
}

Result<std::optional<LiveNote>> LiveFolder::read(const std::string& host) const {
    auto note = TRY(read(host, Role::Destination));
    // A server that came here and leaves again: what counts is the later one.
    if (!note || note->verdict == Verdict::Here) {
        if (auto source = TRY(read(host, Role::Source))) {
            return source;
        }
    }
    return note;
}

Result<std::optional<LiveNote>> LiveFolder::read(const std::string& host, Role role) const {
    for (const bool apart : {true, false}) {
        const std::string path = note_path(role, apart);
        if ((apart && role == Role::Source) || !path_exists(path)) {
            continue;
        }
        const std::string text = TRY(read_file(path, kNoteMax));
        LiveNote note = TRY_CONTEXT(LiveNote::parse(text), "reading {}", path);
        if (note.host == host) {
            return std::optional(std::move(note));
        }
    }
    return std::optional<LiveNote>();
}

Result<void> LiveFolder::write(const LiveNote& note) const {
    const bool apart = note.role == Role::Destination && note.shared;
    return write_file_atomic(note_path(note.role, apart), note.text(), 0600);
}

Result<void> LiveFolder::remove(const LiveNote& note) const {
    const bool apart = note.role == Role::Destination && note.shared;
    TRY(remove_file(note_path(note.role, apart)));
    return remove_file(journal(note));
}

uint64_t read_epoch(const InstanceFolder& folder) {
    const auto text = read_file(folder.path() + "/epoch", kNoteMax);
    const auto json = text.ok() ? Json::parse(*text) : Result<Json>(Json());
    const int64_t epoch = json.ok() && json->is_object() ? json->integer_or("epoch") : 0;
    return epoch > 0 ? static_cast<uint64_t>(epoch) : 1;
}

Result<void> write_epoch(const InstanceFolder& folder, uint64_t epoch) {
    return write_file_atomic(folder.path() + "/epoch", Json::object({{"epoch", epoch}}).dump(),
                             0600);
}

}  // namespace kumoi::compute
