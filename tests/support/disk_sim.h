// A simulated disk for the qcow2 engine: SimFile keeps what is durable and what is only in the
// drive's cache; SimPort completes calls at once or in a random order on one thread; power_cut()
// says what a cut leaves: each 512-byte sector of each unsynced write survives or not. All
// randomness comes from one seed.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "base/random.h"
#include "hypervisor/block/qcow2/io_port.h"

namespace kumoi::test {

namespace q = hypervisor::qcow2;

struct SimFile final : q::HostFile {
    static constexpr uint64_t kSector = 512;
    struct Change {
        uint64_t offset = 0;
        std::vector<uint8_t> bytes;
        bool truncate = false;  // to `offset`
    };
    std::vector<uint8_t> now;      // as a running program reads it
    std::vector<uint8_t> durable;  // as of the last sync
    std::vector<Change> unsynced;
    std::function<int(const q::IoCall&)> fault;  // a negative errno fails the call

    explicit SimFile(std::vector<uint8_t> content = {}) : now(std::move(content)), durable(now) {
        path = "sim.qcow2";
        size = now.size();
    }
    int perform(q::IoCall& call);
    // The bytes after a cut; `in_flight` writes may be there in part, too.
    std::vector<uint8_t> power_cut(Random& random,
                                   const std::vector<const q::IoCall*>& in_flight) const;

private:
    void apply(std::vector<uint8_t>& to, const Change& change, Random* random,
               uint64_t survival_percent) const;
};

class SimPort final : public q::IoPort {
public:
    explicit SimPort(Random* random = nullptr) : random_(random) {}  // null: completes at once
    bool start(q::IoCall& call) override;
    void post(std::coroutine_handle<> handle) override;
    // Completes one call or resumes one waiter. False: nothing to do.
    bool step();
    // After a cut nothing is resumed any more.
    void die() { dead_ = true; }
    std::vector<const q::IoCall*> in_flight() const;
    uint64_t steps() const { return steps_; }

private:
    Random* const random_;
    std::vector<q::IoCall*> started_;
    std::deque<std::coroutine_handle<>> posted_;
    uint64_t steps_ = 0;
    bool dead_ = false;
};

}  // namespace kumoi::test
