#include "api/cli/session.h"

#include "base/file.h"

namespace kumoi::cli {
namespace {

constexpr const char* kConfigPath = "/etc/kumoi/kumoi.conf";
constexpr const char* kDefaultStatePath = "/var/lib/kumoi";

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t\r");
    return begin == std::string_view::npos
               ? std::string_view()
               : text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::string from_config(std::string_view key) {
    const auto text = read_file(kConfigPath);
    return text.ok() ? config_value(text.value(), key) : "";
}

}  // namespace

std::string config_value(std::string_view text, std::string_view key) {
    bool in_default = false;
    std::string value;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        const std::string_view line = trimmed(text.substr(0, end));
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
        if (line.starts_with('[')) {
            in_default = line == "[DEFAULT]" || line == "[default]";
        }
        const size_t separator = line.find_first_of("=:");
        if (in_default && separator != std::string_view::npos &&
            trimmed(line.substr(0, separator)) == key) {
            value = trimmed(line.substr(separator + 1));
        }
    }
    return value;
}

Session::Session(const Clock& clock, Environment environment)
    : clock_(clock), environment_(std::move(environment)) {}

std::string Session::state_path() const {
    if (!options.state_path.empty()) {
        return options.state_path;
    }
    const std::string configured = from_config("state_path");
    return configured.empty() ? kDefaultStatePath : configured;
}

std::string Session::instances_path() const {
    if (!options.instances_path.empty()) {
        return options.instances_path;
    }
    const std::string configured =
        options.state_path.empty() ? from_config("instances_path") : std::string();
    return configured.empty() ? state_path() + "/instances" : configured;
}

Result<Cloud*> Session::cloud() {
    if (cloud_ == nullptr) {
        auto credentials = TRY(find_credentials(
            {.cloud = options.cloud, .state_path = state_path(), .environment = environment_}));
        http_ = std::make_unique<api::HttpClient>(
            api::HttpClientOptions{.user_agent = "kumoi-cli", .ca_file = credentials.ca_file});
        cloud_ = std::make_unique<Cloud>(
            std::move(credentials),
            [this](const api::HttpRequest& request) { return http_->send(request); });
    }
    return cloud_.get();
}

}  // namespace kumoi::cli
