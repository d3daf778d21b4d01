#include "base/websocket.h"

#include <algorithm>
#include <cctype>

#include "base/encoding.h"
#include "base/small_digest.h"

namespace kumoi {

namespace {

constexpr std::string_view kEndOfRequest = "\r\n\r\n";
constexpr std::string_view kBadRequest = "400 Bad Request";
constexpr std::string_view kMagic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // §1.3

enum Opcode : uint8_t {
    kContinuation = 0,
    kText = 1,
    kBinary = 2,
    kClose = 8,
    kPing = 9,
    kPong = 10,
};
constexpr uint8_t kFinal = 0x80;
constexpr uint8_t kMasked = 0x80;
constexpr uint64_t kControlMax = 125;  // §5.5

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
        text.remove_prefix(1);
    }
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
        text.remove_suffix(1);
    }
    return text;
}

bool same_word(std::string_view left, std::string_view right) {
    return std::ranges::equal(left, right, [](unsigned char a, unsigned char b) {
        return std::tolower(a) == std::tolower(b);
    });
}

// Calls `function` with each element of a comma-separated list.
template <class Function>
void for_each_element(std::string_view list, Function function) {
    while (!list.empty()) {
        const size_t comma = std::min(list.find(','), list.size());
        function(trimmed(list.substr(0, comma)));
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
}

struct Handshake {
    bool upgrade = false;
    bool connection = false;
    bool version = false;
    std::string_view key;
    WebSocketRequest request;
    std::vector<std::string_view> protocols;
};

void take_header(std::string_view name, std::string_view value, Handshake& handshake) {
    if (same_word(name, "upgrade")) {
        handshake.upgrade = same_word(value, "websocket");
    } else if (same_word(name, "connection")) {
        for_each_element(value, [&](std::string_view element) {
            handshake.connection = handshake.connection || same_word(element, "upgrade");
        });
    } else if (same_word(name, "sec-websocket-version")) {
        handshake.version = value == "13";
    } else if (same_word(name, "sec-websocket-key")) {
        handshake.key = value;
    } else if (same_word(name, "origin")) {
        handshake.request.origin = value;
    } else if (same_word(name, "host")) {
        handshake.request.host = value;
    } else if (same_word(name, "cookie")) {
        handshake.request.cookie = value;
    } else if (same_word(name, "sec-websocket-protocol")) {
        for_each_element(value,
                         [&](std::string_view element) { handshake.protocols.push_back(element); });
    }
}

std::string header(uint8_t opcode, uint64_t size) {
    std::string out;
    out += static_cast<char>(kFinal | opcode);
    unsigned width = 0;
    if (size <= kControlMax) {
        out += static_cast<char>(size);
    } else if (size <= 0xffff) {
        out += static_cast<char>(126);
        width = 2;
    } else {
        out += static_cast<char>(127);
        width = 8;
    }
    for (unsigned i = width; i-- > 0;) {
        out += static_cast<char>(size >> (8 * i));
    }
    return out;
}

}  // namespace

std::string websocket_accept(std::string_view key) {
    return base64_encode(sha1_of(std::string(key).append(kMagic)));
}

std::string WebSocketStream::frame(std::string_view payload) {
    std::string out = header(kBinary, payload.size());
    out += payload;
    return out;
}

std::string WebSocketStream::close_frame(uint16_t code, std::string_view reason) {
    reason = reason.substr(0, kControlMax - 2);
    std::string out = header(kClose, 2 + reason.size());
    out += static_cast<char>(code >> 8);
    out += static_cast<char>(code & 0xff);
    out += reason;
    return out;
}

Result<std::string> WebSocketStream::receive(std::string_view bytes) {
    std::string payload;
    if (closed_) {
        return payload;
    }
    input_ += bytes;
    if (!open_) {
        const size_t end = input_.find(kEndOfRequest);
        if (end == std::string::npos) {
            if (input_.size() > kRequestMax) {
                TRY(refuse(kBadRequest, "the request is too long"));
            }
            return payload;
        }
        const std::string request = input_.substr(0, end);
        input_.erase(0, end + kEndOfRequest.size());
        TRY(take_request(request));
    }
    while (!closed_ && TRY(take_frame(payload))) {
    }
    return payload;
}

Result<void> WebSocketStream::refuse(std::string_view status, std::string_view reason) {
    output_ += fmt::format(
        "HTTP/1.1 {}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
        "Content-Length: {}\r\n\r\n{}\n",
        status, reason.size() + 1, reason);
    closed_ = true;
    return Error::invalid("no WebSocket: {}", reason);
}

Result<void> WebSocketStream::take_request(std::string_view request) {
    const size_t first_end = std::min(request.find("\r\n"), request.size());
    const std::string_view first = request.substr(0, first_end);
    constexpr size_t kShortest = std::string_view("GET / HTTP/1.1").size();
    if (!first.starts_with("GET ") || !first.ends_with(" HTTP/1.1") || first.size() < kShortest) {
        return refuse(kBadRequest, "only GET of HTTP/1.1 opens a WebSocket");
    }
    Handshake handshake;
    handshake.request.target = first.substr(4, first.size() - 4 - 9);
    std::string_view rest = request.substr(std::min(first_end + 2, request.size()));
    while (!rest.empty()) {
        const size_t end = std::min(rest.find("\r\n"), rest.size());
        const std::string_view line = rest.substr(0, end);
        const size_t colon = line.find(':');
        if (colon == std::string_view::npos) {
            return refuse(kBadRequest, "a header line has no colon");
        }
        take_header(line.substr(0, colon), trimmed(line.substr(colon + 1)), handshake);
        rest.remove_prefix(std::min(end + 2, rest.size()));
    }
    constexpr size_t kKeyBytes = 16;  // §4.2.1
    const auto key = base64_decode(handshake.key);
    if (!handshake.upgrade || !handshake.connection || !handshake.version || !key ||
        key->size() != kKeyBytes) {
        return refuse(kBadRequest, "this address speaks WebSocket version 13 only");
    }
    if (approve_) {
        if (const auto approved = approve_(handshake.request); !approved) {
            return refuse("403 Forbidden", approved.error().message);
        }
    }
    output_ += fmt::format(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: {}\r\n",
        websocket_accept(handshake.key));
    for (const std::string& ours : protocols_) {
        if (std::ranges::find(handshake.protocols, ours) != handshake.protocols.end()) {
            output_ += fmt::format("Sec-WebSocket-Protocol: {}\r\n", ours);
            break;
        }
    }
    output_ += "\r\n";
    open_ = true;
    return {};
}

Result<bool> WebSocketStream::take_frame(std::string& payload) {
    constexpr size_t kMaskSize = 4;
    if (input_.size() < 2) {
        return false;
    }
    const auto byte = [this](size_t i) { return static_cast<uint8_t>(input_[i]); };
    const uint8_t first = byte(0);
    const uint8_t opcode = first & 0x0f;
    if ((first & 0x70) != 0 || (byte(1) & kMasked) == 0) {
        return Error::invalid("the client sent a WebSocket frame with {}",
                              (first & 0x70) != 0 ? "an extension nobody agreed on" : "no mask");
    }
    uint64_t size = byte(1) & 0x7f;
    const size_t width = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (input_.size() < 2 + width) {
        return false;
    }
    if (width != 0) {
        size = 0;
        for (size_t i = 0; i < width; ++i) {
            size = size << 8 | byte(2 + i);
        }
    }
    const bool control = opcode >= kClose;
    if (size > (control ? kControlMax : kFrameMax) || (control && (first & kFinal) == 0)) {
        return Error::too_large("the client sent a WebSocket frame of {} bytes; {} are taken", size,
                                control ? kControlMax : kFrameMax);
    }
    const size_t start = 2 + width + kMaskSize;
    if (input_.size() < start + size) {
        return false;
    }
    std::string content = input_.substr(start, size);
    for (size_t i = 0; i < content.size(); ++i) {
        content[i] = static_cast<char>(content[i] ^ input_[2 + width + i % kMaskSize]);
    }
    input_.erase(0, start + size);
    TRY(act_on(opcode, std::move(content), payload));
    return true;
}

Result<void> WebSocketStream::act_on(uint8_t opcode, std::string&& content, std::string& payload) {
    switch (opcode) {
        case kContinuation:
        case kText:
        case kBinary: payload += content; return {};
        case kPing: output_ += header(kPong, content.size()) + content; return {};
        case kPong: return {};
        case kClose:
            output_ += header(kClose, std::min<size_t>(content.size(), 2)) + content.substr(0, 2);
            closed_ = true;
            return {};
        default: return Error::invalid("the client sent WebSocket opcode {}", opcode);
    }
}

}  // namespace kumoi
