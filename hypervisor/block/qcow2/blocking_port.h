// BlockingPort: makes every call at once on the calling thread. For kumoi-img, for opening and
// closing images (run_inline), and for the control thread beside running queues (run_waiting).
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/block/qcow2/io_port.h"
#include "hypervisor/block/qcow2/task.h"

namespace kumoi::hypervisor::qcow2 {

struct OpenedFile final : HostFile {
    UniqueFd owned;
    UniqueFd owned_direct;
};

class BlockingPort final : public IoPort {
public:
    bool start(IoCall& call) override;
    void post(std::coroutine_handle<> handle) override;
    void resume_next();  // waits for a post()

private:
    std::mutex mutex_;  // guards posted_
    std::condition_variable changed_;
    std::deque<std::coroutine_handle<>> posted_;
};

// The task may have to wait for locks that other threads hold.
template <class T>
T run_waiting(BlockingPort& port, Task<T> task) {
    task.start();
    while (!task.done()) {
        port.resume_next();
    }
    return task.take();
}

// The system call for `call`'s next step on its descriptor; 0 or more, or a negative errno.
int64_t io_system_call(const IoCall& call);

// Takes an open descriptor of a regular file or block device. `direct` may be closed.
Result<std::unique_ptr<OpenedFile>> adopt_host_file(std::string path, UniqueFd file,
                                                    UniqueFd direct);

}  // namespace kumoi::hypervisor::qcow2
