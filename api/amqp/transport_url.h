// TransportUrl: oslo.messaging's transport_url, one option that names every broker host.
//
//     rabbit://nova:secret@10.0.0.1:5672,nova:secret@10.0.0.2:5672/vhost?ssl=1
//
// User, password and vhost are percent-encoded; no host at all is localhost; an IPv6 address stands
// in brackets; an empty path is the vhost "/". A host without credentials takes those of the first
// host (oslo.messaging would try "guest" there). Members of the query override
// [oslo_messaging_rabbit]. A plain value.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kumoi::amqp {

struct TransportUrl {
    struct Host {
        std::string host;
        uint16_t port = 5672;
        std::string user = "guest";
        std::string password = "guest";
        std::string text() const;  // host:port, without credentials: for logs
    };
    std::vector<Host> hosts;  // at least one
    std::string vhost = "/";
    std::map<std::string, std::string> options;

    static Result<TransportUrl> parse(std::string_view text);
    std::string text() const;  // without passwords: for logs
};

// "%2F" to "/"; nothing when a percent sign is not followed by two hexadecimal digits.
Result<std::string> percent_decode(std::string_view text);

}  // namespace kumoi::amqp
