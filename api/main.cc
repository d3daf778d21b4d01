// kumoi-compute: reads the command line and the configuration, then runs. docs/man/kumoi-compute.8.
#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "api/member.h"
#include "api/openstack.h"
#include "api/options.h"
#include "api/standalone.h"
#include "base/file.h"
#include "base/log.h"
#include "base/version.h"
#include "compute/options.h"

namespace kumoi::api {
namespace {

constexpr char kDefaultConfig[] = "/etc/kumoi/kumoi.conf";
constexpr char kUsage[] =
    "usage: kumoi-compute [--config-file FILE]... [--pid-file FILE] [--fleet N]\n"
    "       kumoi-compute --check-config FILE | --sample-config | --describe-options\n"
    "       kumoi-compute --version | --help\n"
    "\n"
    "Runs the servers of this host and, standalone, the Identity, Compute, Image and Network "
    "APIs.\n"
    "Without --config-file it reads /etc/kumoi/kumoi.conf when that exists. See "
    "kumoi-compute(8).\n";

constexpr int kFailed = 1;
constexpr int kUsageError = 2;

struct Arguments {
    std::vector<std::string> config_files;
    std::string pid_file;
    std::string check_config;
    std::string fleet_text;
    int64_t fleet = 0;  // simulated hosts; 0: this host
    bool sample = false;
    bool describe = false;
    bool version = false;
    bool help = false;
};

Result<Arguments> parse(const std::vector<std::string>& words) {
    Arguments arguments;
    for (size_t index = 0; index < words.size(); ++index) {
        const std::string& word = words[index];
        if (word == "--config-file") {
            arguments.config_files.emplace_back();
        }
        std::string* value = word == "--config-file"    ? &arguments.config_files.back()
                             : word == "--pid-file"     ? &arguments.pid_file
                             : word == "--check-config" ? &arguments.check_config
                             : word == "--fleet"        ? &arguments.fleet_text
                                                        : nullptr;
        bool* flag = word == "--sample-config"      ? &arguments.sample
                     : word == "--describe-options" ? &arguments.describe
                     : word == "--version"          ? &arguments.version
                     : word == "--help"             ? &arguments.help
                                                    : nullptr;
        if (value != nullptr) {
            if (index + 1 == words.size()) {
                return Error::invalid("{} needs a value", word);
            }
            *value = words[++index];
        } else if (flag != nullptr) {
            *flag = true;
        } else {
            return Error::invalid("unknown argument {}", word);
        }
    }
    if (!arguments.fleet_text.empty()) {
        const std::string& text = arguments.fleet_text;
        const auto end = text.data() + text.size();
        const auto [rest, error] = std::from_chars(text.data(), end, arguments.fleet);
        if (error != std::errc() || rest != end || arguments.fleet < 1) {
            return Error::invalid("--fleet {}: not a number of hosts", text);
        }
    }
    return arguments;
}

Result<ReadConfig> read_config(std::vector<std::string> paths) {
    if (paths.empty() && path_exists(kDefaultConfig)) {
        paths.emplace_back(kDefaultConfig);
    }
    return read_configuration(paths);
}

int fail(int status, const Error& error) {
    std::fprintf(stderr, "kumoi-compute: %s\n", error.text().c_str());
    return status;
}

// A Standalone or an Openstack.
template <class Node>
Result<void> serve_as(std::unique_ptr<Node> node, const std::string& pid_file) {
    TRY(node->start());
    if (!pid_file.empty()) {
        TRY(write_file_atomic(pid_file, fmt::format("{}\n", ::getpid())));
    }
    node->run();
    node->stop();
    if (!pid_file.empty()) {
        TRY(remove_file(pid_file));
    }
    return {};
}

Result<void> serve(const ReadConfig& read, const Arguments& arguments) {
    const Config& config = read.config;
    TRY(log_init({.level = config.boolean("DEFAULT", "debug") ? LogLevel::Debug : LogLevel::Info,
                  .file = config.string("DEFAULT", "log_file"),
                  .json = config.boolean("DEFAULT", "use_json")}));
    for (const std::string& option : read.unknown) {
        log_debug("main", "an option of nova.conf without a meaning here", {{"option", option}});
    }
    if (config.string("DEFAULT", "mode") == "openstack" || arguments.fleet != 0) {
        return serve_as(TRY(Openstack::create(config, arguments.fleet)), arguments.pid_file);
    }
    if (config.string("DEFAULT", "mode") == "member") {
        return serve_as(TRY(Member::create(config)), arguments.pid_file);
    }
    return serve_as(TRY(Standalone::create(config)), arguments.pid_file);
}

int run(const std::vector<std::string>& words) {
    const auto arguments = parse(words);
    if (!arguments.ok()) {
        std::fputs(kUsage, stderr);
        return fail(kUsageError, arguments.error());
    }
    if (arguments->help || arguments->version) {
        std::fputs(arguments->help ? kUsage : fmt::format("kumoi-compute {}\n", kVersion).c_str(),
                   stdout);
        return 0;
    }
    if (arguments->sample || arguments->describe) {
        const std::string text =
            arguments->sample ? options().sample() : compute::describe_options(options());
        std::fputs(text.c_str(), stdout);
        return 0;
    }
    if (!arguments->check_config.empty()) {
        const auto config = read_configuration({arguments->check_config});
        return config.ok() ? 0 : fail(kUsageError, config.error());
    }
    const auto config = read_config(arguments->config_files);
    if (!config.ok()) {
        return fail(kUsageError, config.error());
    }
    const auto outcome = serve(*config, *arguments);
    if (!outcome.ok()) {
        log_error("main", outcome.error().text());
        return fail(kFailed, outcome.error());
    }
    return 0;
}

}  // namespace
}  // namespace kumoi::api

int main(int argc, char** argv) {
    // A peer that hangs up must be an error of one connection, never the end of the process.
    ::signal(SIGPIPE, SIG_IGN);
    return kumoi::api::run({argv + 1, argv + argc});
}
