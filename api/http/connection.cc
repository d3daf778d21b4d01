#include "api/http/connection.h"

#include <algorithm>

#include "base/uuid.h"

namespace kumoi::api {
namespace {

constexpr int64_t kLingerNs = 2 * kNanosPerSecond;
constexpr size_t kLingerBytesMax = 4u << 20;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

// "req-" and 36 characters of a UUID, lower case (oslo.middleware's own rule).
bool well_formed_request_id(std::string_view text) {
    return text.size() == 40 && text.starts_with("req-") &&
           text.find_first_not_of("0123456789abcdef-", 4) == std::string_view::npos;
}

int64_t after(int64_t since_ns, int64_t timeout_ms) {
    return since_ns + timeout_ms * kNanosPerMilli;
}

}  // namespace

Answer make_answer(Reply reply, const ResponseContext& context) {
    ResponseHead head = write_response_head(reply, context);
    Answer answer{std::move(head.bytes), head.keep_alive};
    if (head.framing == BodyFraming::Counted) {
        answer.bytes += reply.body;
    }
    return answer;
}

Connection::Connection(const ServerOptions& options, const Router& router,
                       const ServerDependencies& dependencies, std::string peer_address,
                       std::string local_address)
    : options_(options),
      router_(router),
      dependencies_(dependencies),
      peer_address_(std::move(peer_address)),
      local_address_(std::move(local_address)),
      since_ns_(now()) {}

bool Connection::wants_input() const {
    return !input_ended_ &&
           (state_ == State::AwaitHead || state_ == State::AwaitBody || state_ == State::Lingering);
}

void Connection::receive(std::string_view bytes) {
    if (state_ == State::Lingering) {
        discarded_ += bytes.size();
        if (discarded_ > kLingerBytesMax) {
            state_ = State::Closed;
        }
        return;
    }
    input_.append(bytes);
    advance();
}

void Connection::receive_end() {
    input_ended_ = true;
    if (state_ == State::Lingering || state_ == State::AwaitBody ||
        (state_ == State::AwaitHead && output().empty())) {
        state_ = State::Closed;
    }
}

std::optional<Connection::Next> Connection::next_request() {
    if (state_ != State::Ready) {
        return std::nullopt;
    }
    state_ = State::Running;
    return Next{std::move(request_), context_, stream_};
}

void Connection::answer(Answer answer) {
    KUMOI_ASSERT(state_ == State::Running);
    keep_alive_ = answer.keep_alive && !draining_;
    output_.erase(0, output_sent_);
    output_sent_ = 0;
    if (output_.empty()) {
        output_ = std::move(answer.bytes);
    } else {
        output_ += answer.bytes;
    }
    state_ = State::Replying;
    since_ns_ = now();
}

std::string_view Connection::output() const {
    return std::string_view(output_).substr(output_sent_);
}

void Connection::sent(size_t count) {
    output_sent_ += count;
    KUMOI_ASSERT(output_sent_ <= output_.size());
    if (state_ == State::Replying) {
        since_ns_ = now();
    }
    if (output_sent_ < output_.size()) {
        return;
    }
    output_.clear();
    output_sent_ = 0;
    if (state_ == State::Replying) {
        finish_reply();
    }
}

void Connection::finish_reply() {
    since_ns_ = now();
    if (!keep_alive_) {
        shutdown_due_ = true;
        state_ = input_ended_ ? State::Closed : State::Lingering;
        input_ = {};
        consumed_ = 0;
        return;
    }
    first_request_ = false;
    head_started_ns_.reset();
    scanner_ = {};
    state_ = State::AwaitHead;
    advance();
    const bool idle = state_ == State::AwaitHead && unread().empty();
    if (state_ == State::AwaitHead && (input_ended_ || (draining_ && idle))) {
        state_ = State::Closed;
    }
}

bool Connection::wants_shutdown() {
    return std::exchange(shutdown_due_, false);
}

void Connection::advance() {
    while ((state_ == State::AwaitHead && try_head()) ||
           (state_ == State::AwaitBody && try_body())) {
    }
    compact();
}

// True when the state moved on.
bool Connection::try_head() {
    // RFC 9112 §2.2: empty lines before a request are ignored, also when they arrive in halves.
    while (scanner_.at_start() && unread().starts_with("\r\n")) {
        consumed_ += 2;
    }
    if (unread().empty() || (scanner_.at_start() && unread() == "\r")) {
        return false;
    }
    if (!head_started_ns_) {
        head_started_ns_ = now();
    }
    const std::string_view bytes = unread().substr(0, options_.header_bytes_max + 1);
    const Result<size_t> size = scanner_.scan(bytes);
    if (!size.ok()) {
        refuse({400, size.error().message + "."});
        return true;
    }
    if (size.value() == 0 && bytes.size() <= options_.header_bytes_max) {
        return false;
    }
    if (size.value() == 0 || size.value() > options_.header_bytes_max) {
        const bool in_first_line = bytes.find('\n') == std::string_view::npos;
        refuse({in_first_line ? 414 : 431, fmt::format("The request head has more than {} bytes.",
                                                       options_.header_bytes_max)});
        return true;
    }
    HeadOutcome outcome = parse_head(bytes.substr(0, size.value()),
                                     {options_.header_bytes_max, options_.header_count_max});
    consumed_ += size.value();
    if (!outcome.head) {
        refuse(outcome.refusal);
        return true;
    }
    start_body(std::move(*outcome.head));
    return true;
}

void Connection::start_body(RequestHead head) {
    chunked_ = head.chunked;
    content_length_ = head.content_length;
    expects_continue_ = head.expects_continue;
    build_request(std::move(head));
    stream_ = router_.is_stream(request_);
    const uint64_t bytes_max = stream_ ? options_.stream_body_bytes_max : options_.body_bytes_max;
    if (content_length_ > bytes_max) {
        refuse({413, fmt::format("The request body has {} bytes, the limit is {}.", content_length_,
                                 bytes_max)});
        return;
    }
    decoder_ = chunked_ ? BodyDecoder::chunked(bytes_max)
                        : BodyDecoder::counted(content_length_, bytes_max);
    since_ns_ = now();
    state_ = stream_ ? State::Ready : State::AwaitBody;
    if (state_ == State::AwaitBody && expects_continue_ && !decoder_.finished() &&
        unread().empty()) {
        output_ += kContinue;
    }
}

void Connection::build_request(RequestHead head) {
    request_ = {};
    request_.method = std::move(head.method);
    request_.raw_target = std::move(head.raw_target);
    request_.path = std::move(head.target.path);
    request_.segments = std::move(head.target.segments);
    request_.query = std::move(head.target.query);
    request_.headers = std::move(head.headers);
    request_.version_minor = head.version_minor;
    request_.peer_address = peer_address_;
    request_.local_address = local_address_;
    request_.request_id = "req-" + Uuid::generate(dependencies_.random).text();
    const std::string global_id = request_.headers.first_or("X-OpenStack-Request-ID");
    if (well_formed_request_id(global_id)) {
        request_.global_request_id = global_id;
    }
    context_ = {.head_request = request_.method == "HEAD",
                .version_minor = request_.version_minor,
                .keep_alive = head.keep_alive && !draining_,
                .request_id = request_.request_id,
                .wall_ns = 0};
}

// True when the state moved on.
bool Connection::try_body() {
    while (!decoder_.finished()) {
        std::string_view bytes = unread();
        const size_t before = bytes.size();
        const Result<std::string_view> piece = decoder_.decode(bytes);
        if (!piece.ok()) {
            const bool too_large = piece.error().code == ErrorCode::TooLarge;
            refuse({too_large ? 413 : 400, piece.error().message + "."});
            return true;
        }
        request_.body.append(piece.value());
        consumed_ += before - bytes.size();
        if (bytes.empty() && !decoder_.finished()) {
            return false;
        }
    }
    state_ = State::Ready;
    return true;
}

// Answers without a handler and closes: what follows on this connection can't be trusted.
void Connection::refuse(const HttpRefusal& refusal) {
    Reply reply = router_.render_error(refusal.status, refusal.message, nullptr);
    const ResponseContext context{
        .head_request = false,
        .version_minor = 1,
        .keep_alive = false,
        .request_id = "req-" + Uuid::generate(dependencies_.random).text(),
        .wall_ns = dependencies_.clock.wall_ns()};
    state_ = State::Running;
    answer(make_answer(std::move(reply), context));
}

void Connection::compact() {
    if (consumed_ == input_.size()) {
        input_.clear();
        consumed_ = 0;
        if (input_.capacity() > options_.header_bytes_max) {
            input_.shrink_to_fit();
        }
    } else if (consumed_ > options_.header_bytes_max) {
        input_.erase(0, consumed_);
        consumed_ = 0;
    }
}

int64_t Connection::deadline_ns() const {
    switch (state_) {
        case State::AwaitHead:
            if (head_started_ns_) {
                return after(*head_started_ns_, options_.header_timeout_ms);
            }
            return after(since_ns_,
                         first_request_ ? options_.header_timeout_ms : options_.idle_timeout_ms);
        case State::AwaitBody: return after(since_ns_, options_.body_timeout_ms);
        case State::Replying: return after(since_ns_, options_.write_timeout_ms);
        case State::Lingering: return since_ns_ + kLingerNs;
        default: return INT64_MAX;
    }
}

void Connection::expire() {
    if (state_ == State::AwaitBody || (state_ == State::AwaitHead && head_started_ns_)) {
        refuse({408, "The request did not arrive completely in time."});
        return;
    }
    state_ = State::Closed;
}

void Connection::drain() {
    draining_ = true;
    context_.keep_alive = false;
    if (state_ == State::AwaitHead && unread().empty() && output().empty()) {
        state_ = State::Closed;
    }
}

Connection::Body Connection::take_body() {
    KUMOI_ASSERT(state_ == State::Running);
    KUMOI_ASSERT(stream_);
    Body body{std::string(unread()), decoder_, std::nullopt, expects_continue_};
    if (!chunked_) {
        body.declared_length = content_length_;
    }
    input_ = {};
    consumed_ = 0;
    return body;
}

void Connection::resume(std::string leftover, bool keep_alive) {
    KUMOI_ASSERT(state_ == State::Running);
    input_ = std::move(leftover);
    consumed_ = 0;
    keep_alive_ = keep_alive && !draining_;
    finish_reply();
}

}  // namespace kumoi::api
