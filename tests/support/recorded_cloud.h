// RecordedCloud: a ScriptServer that answers as a real Zed cloud did. tests/data/openstack holds
// what nova-compute asked and was told; a request is answered with the next recorded reply to the
// same method and path, and what was not asked in the recording gets 599, which no client takes
// for an answer.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "tests/support/script_server.h"

namespace kumoi::test {

struct RecordedExchange {
    std::string service, method, path, microversion, content_type;
    bool service_token = false;
    Json body;  // of the request; an empty string: none
    int status = 0;
    Json reply;
};

std::vector<RecordedExchange> load_recording(const std::string& name);  // of tests/data/openstack

class RecordedCloud {
public:
    explicit RecordedCloud(std::vector<RecordedExchange> exchanges);

    std::string url() const { return server_.url(); }
    std::vector<ScriptServer::Request> requests() const { return server_.requests(); }
    // Requests of this method whose path starts so, in order.
    std::vector<ScriptServer::Request> asked(const std::string& method,
                                             const std::string& path_start) const;
    // The recorded exchange of this method and path start; fails the test when there is none.
    const RecordedExchange& recorded(const std::string& method, const std::string& path_start,
                                     size_t index = 0) const;
    // Puts a reply of the test's own before all others, for one request.
    void answer_once(const std::string& method, const std::string& path, ScriptServer::Reply reply);

private:
    ScriptServer::Reply answer(const ScriptServer::Request& request);

    std::vector<RecordedExchange> exchanges_;
    std::map<std::string, size_t> next_;  // by method and path
    std::mutex mutex_;
    std::vector<std::pair<std::string, ScriptServer::Reply>> overrides_;
    ScriptServer server_;
};

}  // namespace kumoi::test
