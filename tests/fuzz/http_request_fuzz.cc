// Feeds any bytes to a connection, cut at any places, and serves what comes out. Checks that the
// cuts do not matter: the same bytes in one piece give the same requests, or smuggling would be
// possible.
#include <cstddef>
#include <cstdint>
#include <string>

#include "api/http/connection.h"

namespace kumoi::api {
namespace {

struct Harness {
    Harness() {
        router.add("POST", "/{path...}", [](Request&) { return Reply::ok(); });
        router.get("/{path...}", [](Request&) { return Reply::ok(); });
        router.put_stream("/stream", [](Request&, BodyReader&) { return Reply::ok(); });
        options.body_bytes_max = 4096;
        options.header_bytes_max = 2048;
    }
    ManualClock clock;
    SeededRandom random{1};
    Metrics metrics;
    ServerOptions options;
    Router router;
    ServerDependencies dependencies{clock, random, metrics};
};

void drain_output(Connection& connection) {
    while (!connection.output().empty()) {
        connection.sent(connection.output().size());
    }
}

// What the handlers saw, as text.
std::string run(Harness& harness, std::string_view input, size_t step) {
    Connection connection(harness.options, harness.router, harness.dependencies, "p", "l");
    std::string seen;
    while (!connection.closed()) {
        drain_output(connection);
        if (auto next = connection.next_request()) {
            seen += next->request.method + " " + next->request.raw_target + "\n";
            for (const auto& [name, value] : next->request.headers) {
                seen += name + ":" + value + "\n";
            }
            seen += next->request.body + "\n";
            if (next->stream) {
                connection.take_body();
                connection.resume({}, false);
                continue;
            }
            connection.answer(make_answer(harness.router.handle(next->request), next->context));
            continue;
        }
        if (input.empty()) {
            connection.receive_end();
            drain_output(connection);
            break;
        }
        KUMOI_ASSERT(connection.wants_input());
        const std::string_view piece = input.substr(0, step);
        input.remove_prefix(piece.size());
        connection.receive(piece);
    }
    return seen;
}

}  // namespace
}  // namespace kumoi::api

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1) {
        return 0;
    }
    static kumoi::api::Harness harness;
    const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::string whole = kumoi::api::run(harness, input, SIZE_MAX);
    const std::string pieces = kumoi::api::run(harness, input, size_t{1} + data[0] % 16);
    KUMOI_ASSERT(whole == pieces);
    return 0;
}
