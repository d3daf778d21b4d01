// Session: what every command of one kumoi run shares: global options, output, and the cloud it
// talks to (logged in when first used). A noun's file adds its commands to the parser; a command
// sets session.action, which runs once the whole command line is understood. One thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "api/cli/cloud.h"
#include "api/cli/credentials.h"
#include "api/cli/output.h"
#include "base/clock.h"
#include "base/result.h"

namespace CLI {
class App;
}

namespace kumoi::cli {

struct GlobalOptions {
    std::string cloud;
    std::string state_path;      // of kumoi-compute on this host
    std::string instances_path;  // empty: what kumoi.conf says, else below state_path
    std::string format = "table";
    std::vector<std::string> columns;
    bool no_wait = false;
    int64_t wait_seconds = 300;
};

class Session {
public:
    Session(const Clock& clock, Environment environment);

    GlobalOptions options;
    Output out;
    std::function<Result<void>()> action;
    // Where the exit code is not an Error's: a failed check.
    int exit_code = 0;

    Result<Cloud*> cloud();
    void set_cloud(std::unique_ptr<Cloud> cloud) { cloud_ = std::move(cloud); }  // tests
    const Clock& clock() const { return clock_; }
    const Environment& environment() const { return environment_; }
    std::string state_path() const;
    std::string instances_path() const;

private:
    const Clock& clock_;
    const Environment environment_;
    std::unique_ptr<api::HttpClient> http_;
    std::unique_ptr<Cloud> cloud_;
};

void add_server_commands(CLI::App& app, Session& session);
void add_host_commands(CLI::App& app, Session& session);
void add_image_commands(CLI::App& app, Session& session);
void add_flavor_commands(CLI::App& app, Session& session);
void add_network_commands(CLI::App& app, Session& session);
void add_template_commands(CLI::App& app, Session& session);
void add_vm_commands(CLI::App& app, Session& session);
void add_check_command(CLI::App& app, Session& session);
void add_config_commands(CLI::App& app, Session& session);
void add_completion_command(CLI::App& app, Session& session);

// The value of `key` in [DEFAULT] of kumoi.conf, empty when absent. Not a full parser: that is
// kumoi-compute's; this finds two paths for the host-local commands.
std::string config_value(std::string_view text, std::string_view key);

}  // namespace kumoi::cli
