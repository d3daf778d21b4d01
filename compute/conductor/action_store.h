// ActionStore: the task log of every server: who asked for what, when, and how each step on each
// host ended. Straight to SQLite; kept after the server is deleted. Events survive the death of the
// process, actions a power cut too. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/manager/conductor_api.h"

namespace kumoi::compute {

struct InstanceAction {
    int64_t id = 0;
    std::string instance_uuid;
    std::string action;  // Nova's: create, delete, stop, start, reboot, pause, unpause, lock, ...
    std::string request_id;
    std::string user_id;
    std::string project_id;
    int64_t start_ns = 0;
    int64_t updated_ns = 0;
    std::optional<std::string> message;  // "Error" once an event failed
};

struct InstanceActionEvent {
    std::string event;
    std::string host;
    int64_t start_ns = 0;
    int64_t finish_ns = 0;              // 0: running
    std::optional<std::string> result;  // Success, Error
    std::optional<std::string> details;
    std::optional<std::string> traceback;
};

// Bounds of a listing, newest first.
struct ActionQuery {
    size_t count_max = 1000;
    std::optional<std::string> marker_request_id;
    int64_t changes_since_ns = 0;
    int64_t changes_before_ns = INT64_MAX;
};

class ActionStore {
public:
    ActionStore(Database& database, const Clock& clock) : database_(database), clock_(clock) {}

    // Inside a transaction of the caller, or in one of its own.
    Result<void> start(SqlSession& sql, const RequestContext& context, const std::string& uuid,
                       const std::string& action);
    Result<void> start(const RequestContext& context, const std::string& uuid,
                       const std::string& action);
    Result<void> event_start(const RequestContext& context, const std::string& uuid,
                             const std::string& event, const std::string& host);
    Result<void> event_finish(const RequestContext& context, const std::string& uuid,
                              const std::string& event, const std::optional<Error>& failure);
    // Marks the action itself failed, with an event that says why.
    Result<void> fail(const RequestContext& context, const std::string& uuid,
                      const std::string& event, const Error& failure);

    Result<std::vector<InstanceAction>> list(const std::string& uuid,
                                             const ActionQuery& query) const;
    Result<std::optional<InstanceAction>> find(const std::string& uuid,
                                               const std::string& request_id) const;
    Result<std::vector<InstanceActionEvent>> events(int64_t action_id) const;  // newest first

private:
    Database& database_;
    const Clock& clock_;
};

}  // namespace kumoi::compute
