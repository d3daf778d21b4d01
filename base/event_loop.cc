#include "base/event_loop.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/assert.h"

namespace kumoi {
namespace {

constexpr uint64_t kWakeId = 0;

uint32_t to_epoll(uint32_t events) {
    uint32_t bits = 0;
    if ((events & EventLoop::kReadable) != 0) {
        bits |= EPOLLIN;
    }
    if ((events & EventLoop::kWritable) != 0) {
        bits |= EPOLLOUT;
    }
    return bits;
}

uint32_t from_epoll(uint32_t bits) {
    uint32_t events = 0;
    if ((bits & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0) {
        events |= EventLoop::kReadable;
    }
    if ((bits & EPOLLOUT) != 0) {
        events |= EventLoop::kWritable;
    }
    return events;
}

}  // namespace

EventLoop::Watch::Watch(Watch&& other) noexcept : loop_(other.loop_), id_(other.id_) {
    other.loop_ = nullptr;
}

EventLoop::Watch& EventLoop::Watch::operator=(Watch&& other) noexcept {
    if (this != &other) {
        reset();
        std::swap(loop_, other.loop_);
        std::swap(id_, other.id_);
    }
    return *this;
}

void EventLoop::Watch::reset() {
    if (loop_ != nullptr) {
        loop_->unwatch(id_);
        loop_ = nullptr;
    }
}

Result<void> EventLoop::Watch::set_events(uint32_t events) {
    KUMOI_ASSERT(loop_ != nullptr);
    const int fd = loop_->watches_.at(id_).fd;
    epoll_event event{};
    event.events = to_epoll(events);
    event.data.u64 = id_;
    if (::epoll_ctl(loop_->epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
        return Error::from_errno(errno, fmt::format("changing the watch on descriptor {}", fd));
    }
    return {};
}

EventLoop::EventLoop(const Clock& clock) : clock_(clock), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    KUMOI_ASSERT(epoll_.is_open());
    auto wake = make_eventfd();
    KUMOI_ASSERT(wake.ok());
    wake_ = std::move(wake).value();
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = kWakeId;
    KUMOI_ASSERT(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0);
}

EventLoop::~EventLoop() = default;

void EventLoop::run() {
    while (true) {
        {
            const std::lock_guard lock(mutex_);
            if (stopping_ && posted_.empty()) {
                stopping_ = false;
                return;
            }
        }
        wait_and_dispatch(next_timeout_ms());
        run_due_timers();
        run_posted();
    }
}

void EventLoop::run_ready() {
    wait_and_dispatch(0);
    run_due_timers();
    run_posted();
}

bool EventLoop::stopping() {
    const std::lock_guard lock(mutex_);
    return stopping_;
}

void EventLoop::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    post([] {});
}

void EventLoop::post(std::function<void()> function) {
    bool first = false;
    {
        const std::lock_guard lock(mutex_);
        first = posted_.empty();
        posted_.push_back(std::move(function));
    }
    if (first) {
        const uint64_t one = 1;
        // A full counter (EAGAIN) means the loop is being woken already.
        [[maybe_unused]] const ssize_t count = ::write(wake_.get(), &one, sizeof(one));
    }
}

EventLoop::TimerId EventLoop::call_after(int64_t delay_ns, std::function<void()> function) {
    const TimerId id = next_id_++;
    const int64_t deadline = clock_.monotonic_ns() + std::max<int64_t>(delay_ns, 0);
    timers_.emplace(std::pair(deadline, id), std::move(function));
    timer_deadlines_.emplace(id, deadline);
    return id;
}

bool EventLoop::cancel(TimerId id) {
    const auto found = timer_deadlines_.find(id);
    if (found == timer_deadlines_.end()) {
        return false;
    }
    timers_.erase({found->second, id});
    timer_deadlines_.erase(found);
    return true;
}

Result<EventLoop::Watch> EventLoop::watch(int fd, uint32_t events,
                                          std::function<void(uint32_t)> function) {
    const uint64_t id = next_id_++;
    epoll_event event{};
    event.events = to_epoll(events);
    event.data.u64 = id;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
        return Error::from_errno(errno, fmt::format("watching descriptor {}", fd));
    }
    watches_.emplace(
        id, Watched{fd, std::make_shared<std::function<void(uint32_t)>>(std::move(function))});
    Watch watch;
    watch.loop_ = this;
    watch.id_ = id;
    return watch;
}

void EventLoop::unwatch(uint64_t id) {
    const auto found = watches_.find(id);
    if (found == watches_.end()) {
        return;
    }
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
    watches_.erase(found);
}

void EventLoop::wait_and_dispatch(int timeout_ms) {
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), timeout_ms);
    for (int index = 0; index < count; ++index) {
        const epoll_event& event = events[static_cast<size_t>(index)];
        const uint64_t id = event.data.u64;  // a copy: epoll_event is packed
        if (id == kWakeId) {
            uint64_t drained = 0;
            [[maybe_unused]] const ssize_t size = ::read(wake_.get(), &drained, sizeof(drained));
            continue;
        }
        const auto found = watches_.find(id);
        if (found == watches_.end()) {
            continue;  // an earlier callback of this batch removed it
        }
        const auto function = found->second.function;
        (*function)(from_epoll(event.events));
    }
}

void EventLoop::run_posted() {
    std::vector<std::function<void()>> batch;
    {
        const std::lock_guard lock(mutex_);
        batch.swap(posted_);
    }
    for (auto& function : batch) {
        function();
    }
}

void EventLoop::run_due_timers() {
    const int64_t now = clock_.monotonic_ns();
    while (!timers_.empty() && timers_.begin()->first.first <= now) {
        auto node = timers_.extract(timers_.begin());
        timer_deadlines_.erase(node.key().second);
        node.mapped()();
    }
}

int EventLoop::next_timeout_ms() const {
    if (timers_.empty()) {
        return -1;
    }
    const int64_t wait = timers_.begin()->first.first - clock_.monotonic_ns();
    if (wait <= 0) {
        return 0;
    }
    constexpr int64_t kLongestMs = 60'000;  // looks again: the clock may be a manual one
    return static_cast<int>(std::min((wait + kNanosPerMilli - 1) / kNanosPerMilli, kLongestMs));
}

}  // namespace kumoi
