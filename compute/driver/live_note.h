// LiveNote: what one host has written down about one live migration, in the folder of the server
// (departure.json on the source, arrival.json on the destination), so that a daemon that was
// restarted takes it up. Where two hosts share the folders, the process that waits for a guest and
// its arrival.json have a folder of their own beside the server's. Values and files; blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/uuid.h"
#include "compute/driver/instance_folder.h"
#include "migration/link/caller.h"

namespace kumoi::compute {

struct LiveNote {
    enum class Role { Source, Destination };
    // What is known for good. Open: nothing is.
    enum class Verdict { Open, Here, Gone };

    Role role = Role::Source;
    Verdict verdict = Verdict::Open;
    Uuid id;           // of the migration
    std::string key;   // link::kKeySize bytes
    std::string host;  // that wrote it
    bool shared = false;
    bool begun = false;  // kumoi-vmm has been told of the migration
    uint64_t epoch = 0;  // the source's
    uint32_t round = 0;  // of connecting, the last
    uint16_t streams = 1;
    uint16_t own_port = 0;
    link::DoorAddress peer;           // empty: not known yet
    std::vector<std::string> copied;  // disks that come with the stream

    std::string text() const;
    static Result<LiveNote> parse(const std::string& text);
};

// Where a side of a migration has its process and its files.
class LiveFolder {
public:
    // `host`: this one, as its notes name it.
    LiveFolder(std::string instances_path, std::string uuid, const std::string& host);

    const std::string& uuid() const { return uuid_; }
    InstanceFolder server() const { return {instances_path_, uuid_}; }
    // Of the process: the server's, but for a destination with shared folders.
    InstanceFolder process(const LiveNote& note) const;
    // A host's own: the process that came by an earlier move, to another host, removes its names
    // when it ends.
    InstanceFolder arriving() const { return {instances_path_, uuid_ + suffix_}; }
    static std::string arriving_suffix(const std::string& host);
    std::string journal(const LiveNote& note) const;

    // That this host wrote; a destination's before a source's. Nothing: no migration is known.
    Result<std::optional<LiveNote>> read(const std::string& host) const;
    Result<std::optional<LiveNote>> read(const std::string& host, LiveNote::Role role) const;
    Result<void> write(const LiveNote& note) const;  // durable
    // The note and its journal.
    Result<void> remove(const LiveNote& note) const;

private:
    std::string note_path(LiveNote::Role role, bool apart) const;

    std::string instances_path_;
    std::string uuid_;
    std::string suffix_;  // of arriving()
};

// Under which epoch a server's guest runs on its disks (handover.md); 1 when it never moved.
uint64_t read_epoch(const InstanceFolder& folder);
Result<void> write_epoch(const InstanceFolder& folder, uint64_t epoch);

}  // namespace kumoi::compute
