// transport_url comes from a file an operator writes; what parses must be usable.
#include <cstdlib>

#include "api/amqp/amqp_options.h"
#include "api/amqp/transport_url.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto url = kumoi::amqp::TransportUrl::parse({reinterpret_cast<const char*>(data), size});
    if (!url.ok()) {
        return 0;
    }
    if (url->hosts.empty()) {
        std::abort();
    }
    for (const auto& host : url->hosts) {
        if (host.host.empty() || host.port == 0 || host.host.find('\0') != std::string::npos) {
            std::abort();
        }
    }
    kumoi::amqp::AmqpOptions options;
    for (const auto& [name, value] : url->options) {
        [[maybe_unused]] const auto applied = options.apply(name, value);
    }
    [[maybe_unused]] const std::string text = url->text();
    return 0;
}
