#include "api/http/dispatcher.h"

#include "base/log.h"

namespace kumoi::api {

Dispatcher::Dispatcher(const ServerOptions& options, const Router& router,
                       const ServerDependencies& dependencies)
    : options_(options),
      router_(router),
      dependencies_(dependencies),
      seconds_(dependencies.metrics.histogram("kumoi_http_request_seconds",
                                              "Time from a complete request to its answer.",
                                              {{"server", options.name}})),
      refused_(dependencies.metrics.counter("kumoi_http_refused_total",
                                            "Requests answered 503 because all workers were busy.",
                                            {{"server", options.name}})),
      connections_(dependencies.metrics.gauge("kumoi_http_connections", "Open client connections.",
                                              {{"server", options.name}})),
      pool_("http-" + options.name, options.worker_threads, options.queue_length_max) {
    for (size_t status_class = 1; status_class < requests_.size(); ++status_class) {
        requests_[status_class] = &dependencies.metrics.counter(
            "kumoi_http_requests_total", "Requests answered, by status class.",
            {{"server", options.name}, {"code", fmt::format("{}xx", status_class)}});
    }
}

void Dispatcher::submit(Connection::Next next, std::function<void(Answer)> done) {
    const ResponseContext context = next.context;
    const auto finish = [this, context, done = std::move(done)](Reply reply) {
        ResponseContext now = context;
        now.keep_alive = now.keep_alive && !draining_;
        now.wall_ns = dependencies_.clock.wall_ns();
        done(make_answer(std::move(reply), now));
    };
    // Shared: std::function wants copyable captures, and copying a body of 2 MiB is not free.
    auto request = std::make_shared<Request>(std::move(next.request));
    const auto queued = pool_.submit([this, request, finish] { finish(run(*request, nullptr)); });
    if (!queued.ok()) {
        finish(busy_reply(request.get()));
    }
}

Reply Dispatcher::run(Request& request, BodyReader* body) {
    const LogScope scope({{"request", request.request_id}});
    const int64_t started_ns = dependencies_.clock.monotonic_ns();
    Reply reply = router_.handle(request, body);
    if (body == nullptr && reply.streams()) {
        log_error("http", "a handler of an ordinary route returned a stream",
                  {{"route", request.route}});
        reply = router_.render_error(500, "The server made an answer it can't send.", &request);
    }
    const int64_t elapsed_ns = dependencies_.clock.monotonic_ns() - started_ns;
    seconds_.observe(static_cast<double>(elapsed_ns) / kNanosPerSecond);
    const size_t status_class = static_cast<size_t>(reply.status / 100);
    if (status_class >= 1 && status_class < requests_.size()) {
        requests_[status_class]->increment();
    }
    log_debug("http", "answered",
              {{"server", options_.name},
               {"method", request.method},
               {"path", request.path},
               {"status", reply.status},
               {"milliseconds", elapsed_ns / kNanosPerMilli}});
    return reply;
}

Reply Dispatcher::busy_reply(const Request* request) const {
    refused_.increment();
    return router_
        .render_error(503, "All workers of this service are busy; try again in a moment.", request)
        .with_header("Retry-After", "1");
}

void Dispatcher::stop() {
    pool_.stop();
    pool_.join();
}

}  // namespace kumoi::api
