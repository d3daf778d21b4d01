// run_relay(): what kumoi-relay does from its order to its end.
#include <sys/socket.h>

#include <future>
#include <thread>

#include "base/json.h"
#include "migration/link/descriptor_message.h"
#include "migration/link/relay.h"

namespace kumoi::link {
namespace {

struct RelayStream {
    UniqueFd socket;
    UniqueFd plain;
    std::promise<Result<bool>> secured;  // whether the kernel encrypts
    std::thread thread;
};

void serve(RelayStream& stream, SSL_CTX& context, const RelayOrder& order, size_t index,
           const std::function<Result<void>()>& ready) {
    auto session = [&]() -> Result<SslPtr> {
        TRY(ready());
        return secure_stream(stream.socket.get(), context, order.role, order, index, in_kernel);
    }();
    if (!session.ok()) {
        stream.secured.set_value(session.error());
        return;
    }
    stream.secured.set_value(*session == nullptr);
    if (*session) {
        pump(**session, stream.plain.get());
    }
    session->reset();
    stream.socket.reset();
    stream.plain.reset();
}

Result<SslContextPtr> context_of(const RelayOrder& order) {
    return order.encryption == Encryption::Certificates
               ? certificate_context(order.role, order.files)
               : psk_context(order.role);
}

std::string report_of(const Result<void>& secured, const Json& kernel) {
    return secured.ok()
               ? Json::object({{"kernel", kernel}}).dump()
               : Json::object({{"error", secured.error().message}, {"hint", secured.error().hint}})
                     .dump();
}

Result<Json> collect(std::vector<RelayStream>& streams) {
    Json kernel = Json::array();
    Result<void> failed;
    for (RelayStream& stream : streams) {
        auto secured = stream.secured.get_future().get();
        if (!secured.ok()) {
            failed = secured.error();
        } else {
            kernel.push_back(*secured);
        }
    }
    return failed.ok() ? Result<Json>(std::move(kernel)) : Result<Json>(failed.error());
}

Result<void> relay_order(int order_socket, const DescriptorMessage& message,
                         const std::function<Result<void>()>& ready,
                         std::vector<RelayStream>& streams) {
    const RelayOrder order = TRY(RelayOrder::parse(message.text));
    if (order.secrets.empty() || streams.size() != order.secrets.size()) {
        return Error::invalid("a relay's order has {} streams and {} secrets", streams.size(),
                              order.secrets.size());
    }
    const SslContextPtr context = TRY(context_of(order));
    for (size_t i = 0; i < streams.size(); ++i) {
        streams[i].thread = std::thread([&, i] { serve(streams[i], *context, order, i, ready); });
    }
    const auto kernel = collect(streams);
    const Result<void> secured = kernel.ok() ? Result<void>() : Result<void>(kernel.error());
    auto told = send_message(order_socket, report_of(secured, kernel.ok() ? *kernel : Json()));
    if (!secured.ok() || !told.ok()) {
        for (RelayStream& stream : streams) {  // those that had come up end too
            if (stream.socket.is_open()) {
                (void)::shutdown(stream.socket.get(), SHUT_RDWR);
            }
        }
    }
    for (RelayStream& stream : streams) {
        stream.thread.join();
    }
    return {};
}

}  // namespace

Result<void> run_relay(int order_socket, const std::function<Result<void>()>& ready) {
    ignore_broken_pipes();
    DescriptorMessage message = TRY(receive_message(order_socket));
    std::vector<RelayStream> streams(message.descriptors.size() / 2);
    for (size_t i = 0; i < streams.size(); ++i) {
        streams[i].socket = std::move(message.descriptors[2 * i]);
        streams[i].plain = std::move(message.descriptors[2 * i + 1]);
    }
    auto served = relay_order(order_socket, message, ready, streams);
    if (!served.ok()) {
        (void)send_message(order_socket, report_of(served, Json()));
    }
    return served;
}

}  // namespace kumoi::link
