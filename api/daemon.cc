#include "api/daemon.h"

#include <malloc.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "base/clock.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/log.h"

namespace kumoi::api {
namespace {

constexpr int kLockTries = 60;
constexpr useconds_t kLockStepUs = 50'000;
constexpr int kHeapsMax = 2;
constexpr int64_t kTrimIntervalNs = 20 * kNanosPerSecond;

void trim_again(EventLoop& loop) {
    loop.call_after(kTrimIntervalNs, [&loop] {
        ::malloc_trim(0);
        trim_again(loop);
    });
}

}  // namespace

ListenAddress parse_listen(const std::string& text) {
    const size_t colon = text.rfind(':');
    ListenAddress address{text.substr(0, colon), 0};
    std::from_chars(text.data() + colon + 1, text.data() + text.size(), address.port);
    if (address.host.starts_with('[') && address.host.ends_with(']')) {
        address.host = address.host.substr(1, address.host.size() - 2);
    }
    return address;
}

Result<std::unique_ptr<HttpServer>> start_server(const Config& config, const std::string& name,
                                                 Router router, bool streams,
                                                 const ServerDependencies& dependencies) {
    const std::string section = name == "compute" ? "api" : name;
    const ListenAddress address = parse_listen(config.string(section, "listen"));
    ServerOptions options;
    options.name = name;
    options.address = address.host;
    options.port = address.port;
    options.worker_threads = static_cast<size_t>(config.integer("api", "worker_threads"));
    auto server = TRY(streams ? make_beast_server(options, std::move(router), dependencies)
                              : make_pistache_server(options, std::move(router), dependencies));
    TRY_CONTEXT(server->start(), "{} API on {}", name, config.string(section, "listen"));
    return server;
}

Router make_metrics_router(const Metrics& metrics) {
    Router router;
    router.get("/metrics", [&metrics](Request&) { return Reply::text(metrics.render()); });
    return router;
}

// A child of a daemon that was killed holds its lock until it has closed what it inherited: on a
// busy host that outlives the daemon by a moment.
Result<UniqueFd> lock_state(const std::string& state_path) {
    TRY(make_directories(state_path, 0700));
    auto lock = TRY(try_lock_file(state_path + "/kumoi-compute.lock"));
    for (int tries = 1; !lock && tries < kLockTries; ++tries) {
        ::usleep(kLockStepUs);
        lock = TRY(try_lock_file(state_path + "/kumoi-compute.lock"));
    }
    if (!lock) {
        return Error::conflict("another kumoi-compute uses {}", state_path)
            .with_hint("Stop it first, or give this one its own [DEFAULT] state_path.");
    }
    return std::move(*lock);
}

void keep_memory_small(EventLoop& loop) {
    ::mallopt(M_ARENA_MAX, kHeapsMax);
    trim_again(loop);
}

Result<StopSignals> StopSignals::watch(EventLoop& loop) {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigaddset(&set, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    StopSignals signals;
    signals.signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    const int fd = signals.signals_.get();
    if (fd < 0) {
        return Error::from_errno(errno, "waiting for signals");
    }
    signals.watch_ = TRY(loop.watch(fd, EventLoop::kReadable, [fd, &loop](uint32_t) {
        signalfd_siginfo info{};
        if (::read(fd, &info, sizeof(info)) == sizeof(info)) {
            log_info("main", "stopping", {{"signal", info.ssi_signo}});
            loop.stop();
        }
    }));
    return signals;
}

}  // namespace kumoi::api
