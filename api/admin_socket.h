// AdminSocket: what this host's administrator asks of this host's daemon, over a unix socket in its
// state folder (mode 0600; docs/reference/live-upgrade.md). Both fronts have it. A request is one
// JSON object in one line; answers are lines until {"done": true} or {"error": ...}.
//
//     -> {"method": "upgrade", "server": UUID, "dry_run": true}     without "server": all
//     <- {"server": UUID, "outcome": "upgraded", "stop_ms": 3.1, "reason": ""}
//     <- {"done": true}
//
// One thread; one request at a time, as long as it takes.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/driver/upgrade_report.h"

namespace kumoi::api {

class AdminSocket {
public:
    // What it may do with its node; on its thread.
    struct Node {
        std::function<Result<std::vector<std::string>>()> servers;
        std::function<Result<compute::UpgradeReport>(const std::string& uuid, bool dry_run)>
            upgrade;
    };
    static Result<std::unique_ptr<AdminSocket>> listen(const std::string& path, Node node);
    ~AdminSocket();  // waits for the request that is being served
    AdminSocket(const AdminSocket&) = delete;
    AdminSocket& operator=(const AdminSocket&) = delete;

private:
    AdminSocket(std::string path, UniqueFd listener, UniqueFd wake, Node node);
    void run();
    void serve(int client);
    Result<void> upgrade(int client, const Json& request);

    const std::string path_;
    const UniqueFd listener_;
    const UniqueFd wake_;
    const Node node_;
    std::atomic<bool> stopping_{false};
    std::thread thread_;  // last: uses the others
};

}  // namespace kumoi::api
