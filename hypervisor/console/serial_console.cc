#include "hypervisor/console/serial_console.h"

#include <vector>

namespace kumoi::hypervisor {

namespace {
constexpr size_t kSlack = 64u << 10;
}  // namespace

SerialConsole::SerialConsole(EventLoop& loop, std::optional<ConsoleLog> log)
    : loop_(loop), log_(std::move(log)) {}

void SerialConsole::output(std::string_view bytes) {
    bool schedule = false;
    {
        const std::lock_guard lock(mutex_);
        if (bytes.size() > kPendingMax) {
            dropped_.increment(bytes.size() - kPendingMax);
            bytes.remove_prefix(bytes.size() - kPendingMax);
        }
        pending_ += bytes;
        // A piece at once: byte by byte, each byte of a guest would move the whole buffer.
        if (pending_.size() > kPendingMax + kSlack) {
            trim_pending();
        }
        schedule = !std::exchange(scheduled_, true);
    }
    if (schedule) {
        loop_.post([this] { flush(); });
    }
}

void SerialConsole::trim_pending() {
    if (pending_.size() > kPendingMax) {
        dropped_.increment(pending_.size() - kPendingMax);
        pending_.erase(0, pending_.size() - kPendingMax);
    }
}

void SerialConsole::flush() {
    std::string bytes;
    {
        const std::lock_guard lock(mutex_);
        trim_pending();
        bytes.swap(pending_);
        scheduled_ = false;
    }
    if (bytes.empty()) {
        return;
    }
    keep(bytes);
    if (log_) {
        log_->append(bytes);
    }
    std::vector<ListenerId> ids;  // a listener may remove itself or others
    for (const auto& [id, listener] : listeners_) {
        ids.push_back(id);
    }
    for (const ListenerId id : ids) {
        if (const auto found = listeners_.find(id); found != listeners_.end()) {
            const Listener listener = found->second;
            listener(bytes);
        }
    }
}

// Trims at twice the limit only, so that the bytes are not moved at each flush.
void SerialConsole::keep(std::string_view bytes) {
    scrollback_ += bytes;
    if (scrollback_.size() > 2 * kScrollbackMax) {
        scrollback_.erase(0, scrollback_.size() - kScrollbackMax);
    }
}

SerialConsole::ListenerId SerialConsole::add_listener(Listener listener) {
    const std::string_view all = scrollback_;
    const size_t skip = all.size() > kScrollbackMax ? all.size() - kScrollbackMax : 0;
    listener(all.substr(skip));
    const ListenerId id = next_id_++;
    listeners_.emplace(id, std::move(listener));
    return id;
}

void SerialConsole::remove_listener(ListenerId id) {
    listeners_.erase(id);
}

}  // namespace kumoi::hypervisor
