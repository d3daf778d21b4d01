// kumoi config: a sample of the configuration file, and whether one is right. kumoi-compute owns
// the option table, so it is asked.
#include "api/cli/command.h"
#include "api/cli/programs.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::cli {
namespace {

constexpr const char* kConfigPath = "/etc/kumoi/kumoi.conf";

Result<std::string> ask_daemon(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), TRY(find_kumoi_program("kumoi-compute")));
    const auto answer = TRY(run_command(arguments, {.timeout_ms = 10'000}));
    if (answer.exit_code != 0) {
        std::string text = answer.err.empty() ? answer.out : answer.err;
        text.erase(text.find_last_not_of('\n') + 1);
        return Error::invalid("{}", text);
    }
    return answer.out;
}

bool is_secret(std::string_view line) {
    const std::string_view key = line.substr(0, line.find_first_of("=:"));
    for (const char* word : {"password", "secret", "token"}) {
        if (key.find(word) != std::string_view::npos &&
            key.find("expir") == std::string_view::npos) {
            return true;
        }
    }
    return false;
}

// What the file sets: sections and values, without comments, secrets starred out.
std::string settings_of(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
        const size_t first = line.find_first_not_of(" \t\r");
        if (first == std::string_view::npos || line[first] == '#' || line[first] == ';') {
            continue;
        }
        if (is_secret(line)) {
            out += std::string(line.substr(0, line.find_first_of("=:"))) + "= ***\n";
        } else {
            out += std::string(line) + "\n";
        }
    }
    return out;
}

}  // namespace

void add_config_commands(CLI::App& app, Session& session) {
    CLI::App* noun = add_noun(app, "config", "The configuration file of kumoi-compute.");
    auto path = std::make_shared<std::string>(kConfigPath);  // shared with the callbacks
    add_verb(noun, "sample", "Print a commented sample.", session, [&session]() -> Result<void> {
        session.out.data(TRY(ask_daemon({"--sample-config"})));
        return {};
    });
    add_verb(noun, "validate", "Check a file.", session, [&session, path]() -> Result<void> {
        session.out.data(TRY(ask_daemon({"--check-config", *path})));
        session.out.say(fmt::format(" ✓ {}", *path));
        return {};
    })->add_option("file", *path, "File; default " + *path + ".");
    add_verb(noun, "show", "Print what a file sets, without comments and secrets.", session,
             [&session, path]() -> Result<void> {
                 session.out.data(settings_of(TRY(read_file(*path))));
                 return {};
             })
        ->add_option("file", *path, "File; default " + *path + ".");
}

}  // namespace kumoi::cli
