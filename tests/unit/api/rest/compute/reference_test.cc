// docs/reference/compute-api.md names exactly the calls the router has.
#include <algorithm>
#include <set>

#include "base/file.h"
#include "tests/support/compute_rest_fixture.h"

namespace kumoi::api {
namespace {

class Reference : public ComputeRest {};

std::set<std::string> documented_calls(const std::string& text) {
    std::set<std::string> calls;
    for (size_t start = text.find("| `"); start != std::string::npos;
         start = text.find("| `", start + 1)) {
        const std::string call = text.substr(start + 3, text.find('`', start + 3) - start - 3);
        if (call.find(" /") != std::string::npos) {
            calls.insert(call);
        }
    }
    return calls;
}

TEST_F(Reference, ListsEveryCallAndNoOther) {
    const auto text = read_file("docs/reference/compute-api.md");  // ctest runs us in the root
    ASSERT_TRUE(text.ok()) << text.error().text();
    std::set<std::string> routes;
    for (const std::string& route : router_->list()) {
        const size_t space = route.find(' ');
        const std::string path = route.substr(space + 1);
        if (path != "/" && path != "/v2.1" && path.find("{project_id}") == std::string::npos) {
            routes.insert(route.substr(0, space + 1) + path.substr(std::string("/v2.1").size()));
        }
    }
    EXPECT_EQ(documented_calls(*text), routes);
}

}  // namespace
}  // namespace kumoi::api
