// Inside of store.h: Store::Operation counts one request that may use host clusters, for as long as
// it lives, so that clusters freed meanwhile are not given to others.
#pragma once

#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor::qcow2 {

class Store::Operation {
public:
    explicit Operation(Store& store) : store_(store) {
        // Again if the generation changed between looking and counting.
        for (;;) {
            index_ = store_.generation_.load() & 1;
            store_.in_flight_[index_].fetch_add(1);
            if ((store_.generation_.load() & 1) == index_) {
                return;
            }
            store_.in_flight_[index_].fetch_sub(1);
        }
    }
    ~Operation() { store_.in_flight_[index_].fetch_sub(1); }
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

private:
    Store& store_;
    uint64_t index_;
};

}  // namespace kumoi::hypervisor::qcow2
