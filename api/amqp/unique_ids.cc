#include "api/amqp/unique_ids.h"

namespace kumoi::amqp {

bool UniqueIds::is_new(const std::string& id) {
    if (id.empty()) {
        return true;
    }
    const std::lock_guard lock(mutex_);
    if (!ids_.insert(id).second) {
        return false;
    }
    order_.push_back(id);
    if (order_.size() > kKept) {
        ids_.erase(order_.front());
        order_.pop_front();
    }
    return true;
}

}  // namespace kumoi::amqp
