// Every route below /servers/{server_id}, taken from the router itself, so that a new one is tested
// on the day it is added: for another project's user the server is not there, whatever the body
// says.
#include <gmock/gmock.h>

#include "tests/support/compute_rest_fixture.h"

namespace kumoi::api {
namespace {

class Tenancy : public ComputeRest {
protected:
    std::vector<std::pair<std::string, std::string>> server_routes(const std::string& id) {
        std::vector<std::pair<std::string, std::string>> routes;
        for (const std::string& route : router_->list()) {
            const size_t space = route.find(' ');
            std::string path = route.substr(space + 1);
            if (!path.starts_with("/v2.1/servers/{server_id}")) {
                continue;
            }
            path = path.substr(std::string("/v2.1").size());
            path.replace(path.find("{server_id}"), 11, id);
            for (size_t open = path.find('{'); open != std::string::npos; open = path.find('{')) {
                path.replace(open, path.find('}') - open + 1, "x");
            }
            routes.emplace_back(route.substr(0, space), path);
        }
        return routes;
    }
};

TEST_F(Tenancy, AnotherProjectSeesNoServerOnAnyRoute) {
    const std::string id = create("alice");
    const auto routes = server_routes(id);
    EXPECT_GE(routes.size(), 32u);
    const char* bodies[] = {"",
                            R"({"server": {"name": "mine"}})",
                            R"({"os-stop": null})",
                            R"({"dance": null})",
                            R"({"metadata": {"a": "b"}})",
                            R"({"tags": ["a"]})",
                            R"({"meta": {"x": "y"}})"};
    for (const auto& [method, path] : routes) {
        for (const char* body : bodies) {
            const bool with_body = method == "POST" || method == "PUT";
            if (with_body != (body[0] != '\0')) {
                continue;
            }
            const Reply reply = call("bob", method, path, body, "2.96");
            EXPECT_EQ(reply.status, 404) << method << " " << path << " " << body;
            EXPECT_THAT(message(reply), testing::HasSubstr("could not be found")) << path;
        }
    }
    const auto instance = conductor_->instance_get(id).value();
    EXPECT_EQ(instance.vm_state, "active");
    EXPECT_TRUE(instance.metadata.empty());
    EXPECT_EQ(instance.display_name, "web");
}

TEST_F(Tenancy, ReadersMayNotChangeAnythingOnAnyRoute) {
    const std::string id = create("alice");
    for (const auto& [method, path] : server_routes(id)) {
        if (method == "GET") {
            continue;
        }
        const std::string body = path.ends_with("/action") ? R"({"os-stop": null})"
                                 : path.ends_with("/tags") ? R"({"tags": ["a"]})"
                                 : path.find("/metadata/") != std::string::npos
                                     ? R"({"meta": {"x": "y"}})"
                                 : path.ends_with("/metadata") ? R"({"metadata": {"a": "b"}})"
                                                               : R"({"server": {"name": "mine"}})";
        const Reply reply = call("rita", method, path, method == "DELETE" ? "" : body, "2.96");
        EXPECT_EQ(reply.status, 403) << method << " " << path << " " << reply.body;
    }
}

TEST_F(Tenancy, NoRouteAnswersWithoutAToken) {
    for (const std::string& route : router_->list()) {
        const size_t space = route.find(' ');
        const std::string path = route.substr(space + 1);
        if (path == "/" || path == "/v2.1" || path.find("{project_id}") != std::string::npos) {
            continue;
        }
        EXPECT_EQ(call("", route.substr(0, space), path.substr(5)).status, 401) << route;
    }
}

}  // namespace
}  // namespace kumoi::api
