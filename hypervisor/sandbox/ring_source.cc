#include "hypervisor/sandbox/ring_source.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <vector>

namespace kumoi::hypervisor {

namespace {

constexpr unsigned kKernelWorkersMax = 4;  // of each kind, for calls that would block

constexpr uint8_t kOperations[] = {IORING_OP_NOP,      IORING_OP_READV, IORING_OP_WRITEV,
                                   IORING_OP_READ,     IORING_OP_WRITE, IORING_OP_FSYNC,
                                   IORING_OP_FALLOCATE};
constexpr uint8_t kRegistrations[] = {IORING_REGISTER_EVENTFD, IORING_UNREGISTER_EVENTFD,
                                      IORING_REGISTER_EVENTFD_ASYNC, IORING_REGISTER_ENABLE_RINGS};
constexpr uint8_t kEntryFlags = IOSQE_IO_LINK | IOSQE_ASYNC | IOSQE_IO_DRAIN;

// Kept for the process's life: threads may give rings back until its very end.
struct Pool {
    std::mutex mutex;
    std::vector<io_uring> rings;
};
Pool& pool() {
    static Pool* instance = new Pool();
    return *instance;
}
std::atomic<bool> g_prepared{false};

// Debian 12's liburing declares functions for these and does not export them.
int register_with(io_uring& ring, unsigned what, const void* argument, unsigned count) {
    const long result = ::syscall(SYS_io_uring_register, ring.ring_fd, what, argument, count);
    return result < 0 ? -errno : 0;
}

int restrict_ring(io_uring& ring) {
    std::vector<io_uring_restriction> rules;
    for (const uint8_t operation : kOperations) {
        io_uring_restriction rule{};
        rule.opcode = IORING_RESTRICTION_SQE_OP;
        rule.sqe_op = operation;
        rules.push_back(rule);
    }
    for (const uint8_t registration : kRegistrations) {
        io_uring_restriction rule{};
        rule.opcode = IORING_RESTRICTION_REGISTER_OP;
        rule.register_op = registration;
        rules.push_back(rule);
    }
    io_uring_restriction flags{};
    flags.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    flags.sqe_flags = kEntryFlags;
    rules.push_back(flags);
    return register_with(ring, IORING_REGISTER_RESTRICTIONS, rules.data(),
                         static_cast<unsigned>(rules.size()));
}

Result<io_uring> make_ring() {
    io_uring ring{};
    if (const int failed = io_uring_queue_init(kRingEntries, &ring, IORING_SETUP_R_DISABLED);
        failed < 0) {
        return Error::from_errno(-failed, "setting up io_uring");
    }
    unsigned workers[2] = {kKernelWorkersMax, kKernelWorkersMax};
    (void)io_uring_register_iowq_max_workers(&ring, workers);  // only a limit: fine without
    int failed = restrict_ring(ring);
    failed = failed == 0 ? register_with(ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) : failed;
    if (failed < 0) {
        io_uring_queue_exit(&ring);
        return Error::from_errno(-failed, "restricting io_uring");
    }
    return ring;
}

}  // namespace

Result<void> prepare_rings(size_t count) {
    g_prepared = true;
    for (size_t i = 0; i < count; ++i) {
        const io_uring ring = TRY(make_ring());
        const std::lock_guard lock(pool().mutex);
        pool().rings.push_back(ring);
    }
    return {};
}

Result<io_uring> take_ring() {
    if (!g_prepared) {
        return make_ring();
    }
    const std::lock_guard lock(pool().mutex);
    if (pool().rings.empty()) {
        return Error::exhausted("all io_uring rings of this process are in use");
    }
    const io_uring ring = pool().rings.back();
    pool().rings.pop_back();
    return ring;
}

void give_ring(io_uring ring) {
    if (!g_prepared) {
        io_uring_queue_exit(&ring);
        return;
    }
    const std::lock_guard lock(pool().mutex);
    pool().rings.push_back(ring);
}

}  // namespace kumoi::hypervisor
