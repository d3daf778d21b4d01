#include "hypervisor/virtio/vsock_connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

namespace kumoi::hypervisor {

using vsock::Header;
using vsock::Operation;

VsockConnection::VsockConnection(Key key, Origin origin, UniqueFd socket)
    : key_(key), socket_(std::move(socket)) {
    if (origin == Origin::Guest) {
        state_ = State::Established;
        wishes_ = kResponse;
    } else {
        wishes_ = kRequest;
    }
}

// --- From the guest ---

void VsockConnection::take(const Header& header, std::span<const std::byte> payload) {
    if (state_ == State::Closed) {
        return;
    }
    take_credit(header);
    switch (header.op()) {
        case Operation::Response: take_response(); break;
        case Operation::Reset: close(); break;
        case Operation::Shutdown: take_shutdown(header.flags); break;
        case Operation::Data: take_data(payload); break;
        case Operation::CreditUpdate: break;
        case Operation::CreditRequest: wishes_ |= kCreditUpdate; break;
        default: reset(); break;  // a second Request, or something unknown
    }
}

void VsockConnection::take_credit(const Header& header) {
    guest_buffer_size_ = header.buffer_size;
    guest_forwarded_ = header.forwarded_count;
    credit_requested_ = credit_requested_ && credit() == 0;
}

void VsockConnection::take_response() {
    if (state_ != State::Connecting || (wishes_ & kRequest) != 0) {
        reset();
        return;
    }
    state_ = State::Established;
}

void VsockConnection::take_data(std::span<const std::byte> payload) {
    const auto size = static_cast<uint32_t>(payload.size());
    const uint32_t waiting = received_ - forwarded_;
    if (state_ != State::Established || (guest_shutdown_ & vsock::kShutdownSend) != 0 ||
        size > kBufferSize - waiting) {
        reset();
        return;
    }
    received_ += size;
    received_total_ += size;
    if (backlog_.empty() && !send_now(payload)) {
        return;
    }
    backlog_.insert(backlog_.end(), payload.begin(), payload.end());
}

void VsockConnection::take_shutdown(uint32_t flags) {
    guest_shutdown_ |= flags & vsock::kShutdownBoth;
    finish_shutdown();
}

// Once everything the guest sent has reached the socket: half or all of it is closed.
void VsockConnection::finish_shutdown() {
    if (guest_shutdown_ == vsock::kShutdownReceive) {
        ::shutdown(socket_.get(), SHUT_RD);  // a writer on the host hears of it
    }
    if (!backlog_.empty()) {
        return;
    }
    if (guest_shutdown_ == vsock::kShutdownBoth) {
        reset();  // §5.10.6.5: the answer to a full shutdown
    } else if ((guest_shutdown_ & vsock::kShutdownSend) != 0) {
        ::shutdown(socket_.get(), SHUT_WR);
    }
}

void VsockConnection::flush() {
    std::span<const std::byte> left = std::span(backlog_).subspan(backlog_start_);
    if (left.empty() || !send_now(left)) {
        return;
    }
    backlog_start_ = backlog_.size() - left.size();
    if (left.empty()) {
        backlog_ = {};
        backlog_start_ = 0;
        finish_shutdown();
    } else if (backlog_start_ >= kBufferSize / 2) {
        backlog_.erase(backlog_.begin(), backlog_.begin() + static_cast<ptrdiff_t>(backlog_start_));
        backlog_start_ = 0;
    }
}

// Takes what the socket took off the front. False when the connection ended over it.
bool VsockConnection::send_now(std::span<const std::byte>& bytes) {
    while (!bytes.empty()) {
        const ssize_t count =
            ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            if (errno == EAGAIN) {
                return true;
            }
            reset();
            return false;
        }
        bytes = bytes.subspan(static_cast<size_t>(count));
        forwarded(static_cast<size_t>(count));
    }
    return true;
}

// The guest is told before what it knows of lets it send only half a buffer more.
void VsockConnection::forwarded(size_t bytes) {
    forwarded_ += static_cast<uint32_t>(bytes);
    if (received_ - forwarded_told_ >= kBufferSize / 2) {
        wishes_ |= kCreditUpdate;
    }
}

// --- To the guest ---

Header VsockConnection::header(Operation operation) const {
    Header header;
    header.source_cid = vsock::kHostCid;
    header.source_port = key_.host_port;
    header.destination_port = key_.guest_port;
    header.type = vsock::kTypeStream;
    header.operation = static_cast<uint16_t>(operation);
    header.buffer_size = kBufferSize;
    header.forwarded_count = forwarded_;
    return header;
}

Header VsockConnection::next_message() {
    const uint32_t wish = wishes_ & (~wishes_ + 1);
    wishes_ &= ~(wish | kCreditUpdate);  // every packet tells the credit
    forwarded_told_ = forwarded_;
    switch (wish) {
        case kRequest: return header(Operation::Request);
        case kResponse: return header(Operation::Response);
        case kReset: return header(Operation::Reset);
        case kShutdown: {
            Header message = header(Operation::Shutdown);
            message.flags = host_shutdown_;
            return message;
        }
        case kCreditRequest: return header(Operation::CreditRequest);
        default: return header(Operation::CreditUpdate);
    }
}

uint32_t VsockConnection::credit() const {
    const uint32_t under_way = sent_ - guest_forwarded_;
    return under_way < guest_buffer_size_ ? guest_buffer_size_ - under_way : 0;
}

bool VsockConnection::wants_read() const {
    return state_ == State::Established && (host_shutdown_ & vsock::kShutdownSend) == 0 &&
           (guest_shutdown_ & vsock::kShutdownReceive) == 0 && credit() > 0;
}

uint32_t VsockConnection::data_room() {
    if (wants_read()) {
        return std::min(credit(), vsock::kPayloadMax);
    }
    if (state_ == State::Established && credit() == 0 && !std::exchange(credit_requested_, true)) {
        wishes_ |= kCreditRequest;
    }
    return 0;
}

Header VsockConnection::data_header(uint32_t size) {
    sent_ += size;
    forwarded_told_ = forwarded_;
    wishes_ &= ~kCreditUpdate;
    Header message = header(Operation::Data);
    message.length = size;
    return message;
}

// Half closed by its owner, or gone altogether: a hang-up tells.
void VsockConnection::socket_ended() {
    pollfd poll_for{socket_.get(), 0, 0};
    const bool gone = ::poll(&poll_for, 1, 0) == 1 && (poll_for.revents & POLLHUP) != 0;
    host_shutdown_ |= gone ? vsock::kShutdownBoth : vsock::kShutdownSend;
    wishes_ |= kShutdown;
}

void VsockConnection::socket_failed() {
    reset();
}

void VsockConnection::reset() {
    close();
    wishes_ = kReset;
}

void VsockConnection::close() {
    state_ = State::Closed;
    wishes_ = 0;
    watch.reset();
    watched_events = 0;
    socket_.reset();
    backlog_ = {};
    backlog_start_ = 0;
}

}  // namespace kumoi::hypervisor
