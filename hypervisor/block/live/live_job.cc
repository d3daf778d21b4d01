#include "hypervisor/block/live/live_job.h"

#include "hypervisor/snapshot/job_thread.h"

namespace kumoi::hypervisor {

LiveJob::~LiveJob() {
    cancel();
    join();
}

void LiveJob::start(std::function<void()> worked) {
    join();
    worked_.reset();
    const auto main = [this, worked = std::move(worked)] {
        worked_.emplace(work());
        worked();
    };
    thread_ = start_job_thread("disk-job", main, ThreadClass::Worker);
}

void LiveJob::join() {
    if (thread_.joinable()) {
        thread_.join();
    }
}

bool LiveJob::finish() {
    join();
    const Result<void> worked =
        worked_ ? *worked_ : Result<void>(Error::unavailable("it was never begun"));
    const Result<bool> settled = settle(worked);
    if (settled.ok() && worked.ok() && !*settled && !cancelled_) {
        return false;
    }
    const bool good = settled.ok() && worked.ok() && *settled;
    state_ = good ? State::Done : State::Failed;
    if (!good) {
        error_ = !worked.ok()    ? worked.error().text()
                 : !settled.ok() ? settled.error().text()
                                 : "it was cancelled";
    }
    return true;
}

// The disk goes while the job has not ended: what it began is taken back.
void LiveJob::finish_unsettled() {
    cancel();
    join();
    if (running()) {
        (void)settle(Result<void>(Error::unavailable("the disk was closed")));
        state_ = State::Failed;
    }
}

Json LiveJob::status() const {
    Json json = Json::object({{"job", kind_},
                              {"state", state_ == State::Running ? "running"
                                        : state_ == State::Done  ? "done"
                                                                 : "failed"},
                              {"done_bytes", done_bytes_.load()},
                              {"total_bytes", total_bytes_.load()}});
    if (!file_.empty()) {
        json.set("target", file_);
    }
    if (!error_.empty()) {
        json.set("error", error_);
    }
    return json;
}

}  // namespace kumoi::hypervisor
