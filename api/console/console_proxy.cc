#include "api/console/console_proxy.h"

#include "api/http/listen_socket.h"
#include "base/log.h"

namespace kumoi::api {

namespace {

constexpr int kAcceptsPerTurn = 16;

}  // namespace

ConsoleProxy::ConsoleProxy(ConsoleProxyOptions options, Validate validate, const Clock& clock,
                           Metrics& metrics)
    : options_(std::move(options)),
      loop_(clock),
      files_(options_.files),
      services_{loop_, files_, options_.allowed_origins, std::move(validate)},
      sessions_open_(metrics.gauge("kumoi_console_sessions",
                                   "Connections to the console proxy that are open.")),
      sessions_total_(metrics.counter("kumoi_console_sessions_total",
                                      "Connections that the console proxy has taken.")) {}

Result<std::unique_ptr<ConsoleProxy>> ConsoleProxy::start(ConsoleProxyOptions options,
                                                          Validate validate, const Clock& clock,
                                                          Metrics& metrics) {
    std::unique_ptr<ConsoleProxy> proxy(
        new ConsoleProxy(std::move(options), std::move(validate), clock, metrics));
    proxy->listener_ = TRY(listen_on(proxy->options_.address, proxy->options_.port));
    proxy->port_ = local_port(proxy->listener_.get());
    ConsoleProxy* self = proxy.get();
    proxy->watch_ = TRY(proxy->loop_.watch(proxy->listener_.get(), EventLoop::kReadable,
                                           [self](uint32_t) { self->accept_some(); }));
    proxy->thread_ = std::thread([self] { self->loop_.run(); });
    return proxy;
}

ConsoleProxy::~ConsoleProxy() {
    loop_.stop();
    if (thread_.joinable()) {
        thread_.join();
    }
    sessions_.clear();
}

void ConsoleProxy::accept_some() {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
        auto client = accept_on(listener_.get());
        if (!client) {
            log_warn("console", "no connection can be taken", {{"why", client.error().text()}});
            return;
        }
        if (!client->is_open()) {
            return;
        }
        accept_one(std::move(*client));
    }
}

void ConsoleProxy::accept_one(UniqueFd client) {
    if (sessions_.size() >= options_.sessions_max) {
        log_warn("console", "a connection was turned away: too many are open",
                 {{"sessions_max", options_.sessions_max}});
        return;
    }
    const uint64_t id = next_id_++;
    std::string peer = peer_address_text(client.get());
    auto session = std::make_unique<ConsoleSession>(std::move(client), std::move(peer), services_);
    // Later, as the session is in the middle of its work when it says so.
    const auto started = session->start([this, id] { loop_.post([this, id] { drop(id); }); });
    if (!started) {
        log_warn("console", "a connection cannot be served", {{"why", started.error().text()}});
        return;
    }
    sessions_total_.increment();
    sessions_.emplace(id, std::move(session));
    sessions_open_.set(static_cast<double>(sessions_.size()));
    loop_.call_after(options_.request_timeout_ns, [this, id] {
        const auto place = sessions_.find(id);
        if (place != sessions_.end() && !place->second->is_console()) {
            drop(id);
        }
    });
}

void ConsoleProxy::drop(uint64_t id) {
    sessions_.erase(id);
    sessions_open_.set(static_cast<double>(sessions_.size()));
}

}  // namespace kumoi::api
