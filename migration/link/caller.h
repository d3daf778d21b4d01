// The side of a migration link that calls: connections to the door of another host
// (MigrationDoor), and questions to it. Blocks; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "base/uuid.h"
#include "migration/link/door.h"

namespace kumoi::link {

struct DoorAddress {
    std::string address;  // an IP address; or
    uint16_t port = 0;
    std::string unix_path;

    std::string text() const;
};

struct CallOptions {
    int64_t connect_ms = 5'000;
    int64_t preamble_ms = 5'000;
    int64_t answer_ms = 60'000;
    int64_t silence_ms = 10'000;
};

struct CalledStreams {
    Encryption encryption = Encryption::None;
    std::vector<LinkStream> streams;
};

// All streams of one round. `round` must be higher than that of the round before.
Result<CalledStreams> connect_migration(const DoorAddress& door, const Uuid& id,
                                        const std::string& key, uint32_t round, uint16_t streams,
                                        Random& random, const CallOptions& options = {});
// One question about a migration, and its answer. Forbidden: the other host does not know it.
Result<std::string> ask_about_migration(const DoorAddress& door, const Uuid& id,
                                        const std::string& key, const std::string& question,
                                        Random& random, const CallOptions& options = {});

}  // namespace kumoi::link
