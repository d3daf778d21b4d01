// Moves of servers to other hosts through the Compute API, step by step and without waiting: for
// `kumoi server migrate`, which waits for one, and `kumoi host maintenance` with many at once.
// Nothing but Nova's public API, microversion 2.72. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/cli/cloud.h"
#include "api/cli/migration_forecast.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

enum class MoveKind { Live, Cold };

// How a server in this state can leave its host; an Error says why not.
Result<MoveKind> kind_of_move(const Json& server);

class ServerMove {
public:
    // `server`: as the Compute API shows it now.
    ServerMove(Cloud& cloud, const Clock& clock, const Json& server, MoveKind kind);

    // Asks for it. Empty host: the scheduler's choice.
    Result<void> start(const std::string& host);
    enum class State { Moving, Moved, Failed };
    // Looks once; a cold move is confirmed when it has arrived, if so wished. Errors: the cloud
    // does not answer.
    Result<State> look(bool confirm_cold);

    const std::string& id() const { return id_; }
    const std::string& name() const { return name_; }
    MoveKind kind() const { return kind_; }
    const std::string& host() const { return host_; }  // where it is now; empty: not told
    const std::string& why() const { return why_; }    // Failed
    const MigrationForecast& forecast() const { return forecast_; }
    std::string line() const;
    // Whether something was seen to change since the last call.
    bool has_news();

private:
    Result<State> look_cold(const Json& server, bool confirm);
    Result<void> read_progress();
    Result<std::string> reason();

    Cloud& cloud_;
    const Clock& clock_;
    const std::string id_;
    const std::string name_;
    const std::string left_host_id_;  // of the host it is to leave
    const MoveKind kind_;
    std::string host_;
    std::string why_;
    std::string phase_;
    std::string seen_;
    bool confirmed_ = false;
    MigrationForecast forecast_;
};

// The live migrations of a server that are under way, newest first.
Result<Json::Array> migrations_under_way(Cloud& cloud, const std::string& server_id);
// The reason of the newest action when it failed; nothing when it did not.
Result<std::optional<std::string>> failed_action(Cloud& cloud, const std::string& server_id);

}  // namespace kumoi::cli
