// Maintenance of a host through the Compute API: its service is disabled with a reason that says
// so, and its servers leave one after the other or several at once: running ones by live migration,
// stopped ones by cold migration unless they are to stay. What is needed to know is in the cloud,
// so any kumoi can look at it or stop it: the reason of the service, and the servers themselves.
// Works on every OpenStack with microversion 2.72. One thread; blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/cli/server_migration.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

struct DrainOptions {
    std::string host;
    std::string reason;    // said to other administrators; may be empty
    int64_t parallel = 0;  // 0: as many as make the sum of their speeds grow
    bool leave_stopped = false;
};

// What happens to one server.
struct DrainItem {
    enum class Plan { Live, Cold, Stays } plan = Plan::Stays;
    enum class State { Waiting, Moving, Moved, Failed } state = State::Waiting;
    Json server;
    std::string why;  // Stays, Failed
    std::unique_ptr<ServerMove> move;
    std::string destination;

    Json record() const;  // for tables
};

// How many moves run at a time, when nobody says it: one more as long as that made the sum of what
// goes over grow by a tenth, one less when it did not. Pure.
class ParallelMoves {
public:
    explicit ParallelMoves(int64_t fixed) : fixed_(fixed) {}
    // `bytes_s`: of all moves that run now, over some seconds; 0: not known yet.
    void measured(int64_t running, int64_t bytes_s);
    int64_t limit() const { return fixed_ > 0 ? fixed_ : limit_; }

private:
    const int64_t fixed_;
    int64_t limit_ = 1;
    int64_t best_bytes_s_ = 0;
    bool settled_ = false;
};

class Drain {
public:
    struct Borders {
        Cloud& cloud;
        const Clock& clock;
        std::function<void()> pause;  // between two looks
        std::function<void(const std::string& line)> progress;
    };
    Drain(Borders borders, DrainOptions options)
        : borders_(std::move(borders)),
          options_(std::move(options)),
          parallel_(options_.parallel) {}

    // What would happen. NotFound: no such host.
    Result<void> plan();
    // Disables the service and moves the servers. Returns when all have left, or failed, or
    // somebody said stop: then those under way have ended, and the rest wait.
    Result<void> run();

    const std::vector<DrainItem>& items() const { return items_; }
    bool stopped() const { return stopped_; }
    int64_t count(DrainItem::State state) const;

private:
    Result<void> look_at_moves();
    Result<void> start_moves();
    Result<void> check_stop();
    void measure();
    std::string line() const;

    const Borders borders_;
    const DrainOptions options_;
    ParallelMoves parallel_;
    std::vector<DrainItem> items_;
    std::string service_id_;
    bool stopped_ = false;
    int64_t measured_ns_ = 0;
};

// The host's compute service, as GET /os-services shows it. NotFound suggests others.
Result<Json> find_compute_service(Cloud& cloud, const std::string& host);
// Of a service: the reason kumoi gave it, or "".
std::string maintenance_reason(const Json& service);
bool is_stopped(const Json& service);
Result<void> disable_for_maintenance(Cloud& cloud, const std::string& service_id,
                                     const std::string& reason, bool stop);
Result<void> enable_service(Cloud& cloud, const std::string& service_id);
Result<Json::Array> servers_of_host(Cloud& cloud, const std::string& host);

}  // namespace kumoi::cli
