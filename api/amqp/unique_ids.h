// UniqueIds: the last ids of messages that were taken, to drop a second copy. Thread safe.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_set>

namespace kumoi::amqp {

class UniqueIds {
public:
    static constexpr size_t kKept = 4096;  // oslo.messaging keeps 16
    bool is_new(const std::string& id);    // and remembers it; an empty id is always new

private:
    std::mutex mutex_;
    std::deque<std::string> order_;
    std::unordered_set<std::string> ids_;
};

}  // namespace kumoi::amqp
