// A Network API alone, for tests with stock clients: in-memory records, tokens "<project>:<role>".
// Prints its port, serves until standard input ends.
#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

#include "api/http/server.h"
#include "api/rest/network/network_api.h"
#include "base/log.h"

namespace kumoi::test {
namespace {

class TokensFake final : public api::TokenValidator {
public:
    Result<api::AuthContext> validate(std::string_view token) override {
        const size_t colon = token.find(':');
        if (colon == std::string_view::npos) {
            return Error::unauthenticated("no such token");
        }
        api::AuthContext who;
        who.user_id = "user";
        who.project_id = token.substr(0, colon);
        who.roles = {std::string(token.substr(colon + 1))};
        who.is_admin = who.roles[0] == "admin";
        return who;
    }
};

Result<void> serve() {
    SystemClock clock;
    SystemRandom random;
    Metrics metrics;
    TokensFake tokens;
    auto database = TRY(compute::Database::open(":memory:"));
    auto service = TRY(compute::NetworkService::create(*database, clock, random));
    api::NetworkApiOptions options;
    options.agents = [] {
        return std::vector<api::NetworkAgent>{
            {"11111111-2222-4333-8444-555555555555", "host1", true, 0, 0}};
    };
    auto server = TRY(api::make_pistache_server({.name = "network"},
                                                api::make_network_router(*service, tokens, options),
                                                {clock, random, metrics}));
    TRY(server->start());
    fmt::print("{}\n", server->port());
    std::fflush(stdout);
    char byte = 0;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {
    }
    server->stop();
    return {};
}

}  // namespace
}  // namespace kumoi::test

int main() {
    const auto outcome = kumoi::test::serve();
    if (!outcome.ok()) {
        fmt::print(stderr, "{}\n", outcome.error().text());
        return 1;
    }
    return 0;
}
