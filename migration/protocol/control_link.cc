#include "migration/protocol/control_link.h"

#include <algorithm>

#include "base/crc32c.h"
#include "hypervisor/snapshot/job_thread.h"

namespace kumoi::migration {

ControlLink::ControlLink(std::unique_ptr<StreamSocket> socket, const Clock& clock, Times times,
                         Events events)
    : socket_(std::move(socket)),
      clock_(clock),
      times_(times),
      events_(std::move(events)),
      sent_ns_(clock.monotonic_ns()),
      heard_ns_(clock.monotonic_ns()) {
    thread_ = hypervisor::start_job_thread(
        "mig-control", [this] { read_main(); }, hypervisor::ThreadClass::Migration);
}

ControlLink::~ControlLink() {
    stop();
    thread_.join();
}

void ControlLink::stop() {
    socket_->stop();
}

Result<void> ControlLink::send(MessageType type, std::span<const std::byte> body) {
    MessageHeader header{type, static_cast<uint32_t>(body.size()), crc32c(body)};
    auto bytes = header.encode();
    iovec vectors[] = {{bytes.data(), bytes.size()},
                       {const_cast<std::byte*>(body.data()), body.size()}};
    const std::lock_guard lock(send_mutex_);
    sent_ns_.store(clock_.monotonic_ns());
    return socket_->send(std::span(vectors));
}

void ControlLink::read_main() {
    for (;;) {
        auto done = read_message();
        if (done) {
            done = beat();
        }
        if (!done) {
            if (!socket_->stopped()) {
                socket_->stop();  // whoever is sending need not wait any more
                events_.lost(done.error());
            }
            return;
        }
    }
}

// Nothing, when none comes within a beat.
Result<void> ControlLink::read_message() {
    const auto beat_ms = static_cast<int>(std::max<int64_t>(times_.beat_ns / kNanosPerMilli, 1));
    if (!TRY(socket_->wait_readable(beat_ms))) {
        const int64_t silent = clock_.monotonic_ns() - heard_ns_;
        if (silent >= times_.lost_ns) {
            return Error::unavailable("the other side has not been heard of for {} ms",
                                      silent / kNanosPerMilli);
        }
        return {};
    }
    std::array<std::byte, MessageHeader::kSize> bytes;
    TRY(socket_->receive(std::span(bytes)));
    const MessageHeader header = TRY(MessageHeader::decode(bytes));
    Message message{header.type, std::vector<std::byte>(header.length)};
    TRY(socket_->receive(std::span(message.body)));
    if (crc32c(message.body) != header.check) {
        return Error::make(ErrorCode::Corrupt, "a message of the migration is damaged");
    }
    heard_ns_ = clock_.monotonic_ns();
    if (message.type != MessageType::Beat) {
        events_.message(std::move(message));
    }
    return {};
}

// Not while somebody else sends: that says it as well.
Result<void> ControlLink::beat() {
    if (clock_.monotonic_ns() - sent_ns_.load() < times_.beat_ns) {
        return {};
    }
    MessageHeader header{MessageType::Beat, 0, crc32c({})};
    const auto bytes = header.encode();
    const std::unique_lock lock(send_mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !socket_->writable()) {
        return {};  // this thread must not wait: it is the one that notices
    }
    sent_ns_.store(clock_.monotonic_ns());
    return socket_->send(std::span(bytes));
}

}  // namespace kumoi::migration
