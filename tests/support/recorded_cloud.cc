#include "tests/support/recorded_cloud.h"

#include <algorithm>

#include "base/assert.h"
#include "base/file.h"

namespace kumoi::test {

std::vector<RecordedExchange> load_recording(const std::string& name) {
    const auto text = read_file("tests/data/openstack/" + name);
    KUMOI_ASSERT(text.ok());
    const auto json = Json::parse(text.value());
    KUMOI_ASSERT(json.ok());
    std::vector<RecordedExchange> exchanges;
    for (const Json& row : json.value().as_array()) {
        exchanges.push_back({.service = row.string_or("service"),
                             .method = row.string_or("method"),
                             .path = row.string_or("path"),
                             .microversion = row.string_or("microversion"),
                             .content_type = row.string_or("content_type"),
                             .service_token = row.bool_or("service_token"),
                             .body = *row.find("body"),
                             .status = static_cast<int>(row.integer_or("status")),
                             .reply = *row.find("reply")});
    }
    return exchanges;
}

RecordedCloud::RecordedCloud(std::vector<RecordedExchange> exchanges)
    : exchanges_(std::move(exchanges)),
      server_([this](const ScriptServer::Request& request) { return answer(request); }) {}

std::vector<ScriptServer::Request> RecordedCloud::asked(const std::string& method,
                                                        const std::string& path_start) const {
    std::vector<ScriptServer::Request> found;
    for (ScriptServer::Request& request : server_.requests()) {
        if (request.method == method && request.target.starts_with(path_start)) {
            found.push_back(std::move(request));
        }
    }
    return found;
}

const RecordedExchange& RecordedCloud::recorded(const std::string& method,
                                                const std::string& path_start, size_t index) const {
    for (const RecordedExchange& exchange : exchanges_) {
        if (exchange.method == method && exchange.path.starts_with(path_start) && index-- == 0) {
            return exchange;
        }
    }
    KUMOI_ASSERT(false);
    return exchanges_.front();
}

void RecordedCloud::answer_once(const std::string& method, const std::string& path,
                                ScriptServer::Reply reply) {
    const std::lock_guard lock(mutex_);
    overrides_.emplace_back(method + " " + path, std::move(reply));
}

ScriptServer::Reply RecordedCloud::answer(const ScriptServer::Request& request) {
    const std::string key = request.method + " " + request.target;
    const std::lock_guard lock(mutex_);
    const auto own = std::find_if(overrides_.begin(), overrides_.end(),
                                  [&](const auto& one) { return one.first == key; });
    if (own != overrides_.end()) {
        ScriptServer::Reply reply = std::move(own->second);
        overrides_.erase(own);
        return reply;
    }
    std::vector<const RecordedExchange*> same;
    for (const RecordedExchange& exchange : exchanges_) {
        if (exchange.method == request.method && exchange.path == request.target) {
            same.push_back(&exchange);
        }
    }
    if (same.empty()) {
        return {.status = 599, .body = R"({"message": "not in the recording"})"};
    }
    const RecordedExchange& exchange = *same[std::min(next_[key]++, same.size() - 1)];
    ScriptServer::Reply reply{.status = exchange.status};
    reply.body = exchange.reply.is_string() ? exchange.reply.as_string() : exchange.reply.dump();
    if (request.target.ends_with("/auth/tokens")) {
        reply.headers.emplace_back("X-Subject-Token", "token-" + std::to_string(next_[key]));
    }
    return reply;
}

}  // namespace kumoi::test
