// KeypairStore: the SSH public keys users imported or had made. Private keys are given out once and
// never stored. Straight to SQLite. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "compute/conductor/database.h"

namespace kumoi::compute {

struct Keypair {
    int64_t id = 0;
    std::string user_id;
    std::string name;
    std::string type = "ssh";
    std::string fingerprint;
    std::string public_key;
    int64_t created_ns = 0;
};

class KeypairStore {
public:
    KeypairStore(Database& database, const Clock& clock) : database_(database), clock_(clock) {}

    // Refuses a name the user has (Conflict: KeyPairExists) and more than `count_max` keys (-1:
    // any).
    Result<Keypair> create(Keypair keypair, int64_t count_max);
    Result<Keypair> get(const std::string& user_id, const std::string& name) const;
    Result<void> remove(const std::string& user_id, const std::string& name);
    Result<std::vector<Keypair>> list(const std::string& user_id) const;  // by name
    Result<int64_t> count(const std::string& user_id) const;

private:
    Database& database_;
    const Clock& clock_;
};

}  // namespace kumoi::compute
