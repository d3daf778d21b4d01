#include "api/cli/command_line.h"

#include <unistd.h>

#include <algorithm>

#include "api/cli/command.h"
#include "api/cli/exit_code.h"
#include "base/version.h"

namespace kumoi::cli {
namespace {

const std::vector<std::pair<std::string, Format>> kFormats{{"table", Format::Table},
                                                           {"json", Format::Json},
                                                           {"yaml", Format::Yaml},
                                                           {"csv", Format::Csv},
                                                           {"value", Format::Value}};

void add_global_options(CLI::App& app, GlobalOptions& options) {
    std::vector<std::string> formats;
    for (const auto& format : kFormats) {
        formats.push_back(format.first);
    }
    app.add_option("-f,--format", options.format, "table, json, yaml, csv or value.")
        ->check(CLI::IsMember(formats));
    app.add_option("-c,--column", options.columns, "Only this column; may be repeated.")
        ->take_all()
        ->expected(1)
        ->allow_extra_args(false);
    app.add_option("--os-cloud,--cloud", options.cloud, "Cloud of clouds.yaml.");
    app.add_flag("--no-wait", options.no_wait, "Do not wait until it is done.");
    app.add_option("--wait-seconds", options.wait_seconds, "How long to wait. Default 300.")
        ->check(CLI::Range(1, 86400));
    app.add_option("--state-path", options.state_path, "State folder of kumoi-compute.");
    app.add_option("--instances-path", options.instances_path, "Folder of the servers here.");
}

void add_version_command(CLI::App& app, Session& session) {
    CLI::App* command = app.add_subcommand("version", "Print the version.");
    command->fallthrough();
    command->callback([&session] {
        session.action = [&session]() -> Result<void> {
            session.out.data(fmt::format("kumoi {}\n", kVersion));
            return {};
        };
    });
}

void choose_output(Session& session) {
    const auto found = std::find_if(kFormats.begin(), kFormats.end(), [&](const auto& format) {
        return format.first == session.options.format;
    });
    OutputOptions& output = session.out.options;
    output.format = found->second;
    output.columns = session.options.columns;
    const bool plain = session.environment()("NO_COLOR").has_value() ||
                       session.environment()("TERM").value_or("dumb") == "dumb";
    output.colour = !plain && isatty(STDOUT_FILENO) == 1;
    output.talk_on_terminal = !plain && isatty(STDERR_FILENO) == 1;
}

int act(Session& session) {
    choose_output(session);
    const auto outcome = session.action();
    if (outcome.ok()) {
        return session.exit_code;
    }
    const int code = exit_code(outcome.error());
    session.out.error(outcome.error());
    return code;
}

}  // namespace

int run_command_line(const std::vector<std::string>& arguments, Session& session) {
    CLI::App app("kumoi: servers on your own machines. See kumoi(1).", "kumoi");
    add_global_options(app, session.options);
    app.set_version_flag("--version", fmt::format("kumoi {}", kVersion));
    app.require_subcommand(1);
    add_server_commands(app, session);
    add_host_commands(app, session);
    add_image_commands(app, session);
    add_flavor_commands(app, session);
    add_network_commands(app, session);
    add_template_commands(app, session);
    add_vm_commands(app, session);
    add_check_command(app, session);
    add_config_commands(app, session);
    add_completion_command(app, session);
    add_version_command(app, session);
    try {
        std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants
        app.parse(reversed);
    } catch (const CLI::Success& help) {  // --help, --version
        return app.exit(help) == 0 ? kDone : kFailed;
    } catch (const CLI::ParseError& error) {
        app.exit(error);
        return kUsage;
    }
    return act(session);
}

}  // namespace kumoi::cli
