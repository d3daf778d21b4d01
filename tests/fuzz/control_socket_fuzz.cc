// Bytes of a hostile control client, in pieces as a socket gives them: cut into lines, parsed,
// answered.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "hypervisor/control/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace kumoi;
    using namespace kumoi::hypervisor;
    constexpr size_t kLineMax = 512;
    LineBuffer buffer(kLineMax);
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    size_t piece = 1;
    while (!rest.empty()) {
        const std::string_view part = rest.substr(0, piece);
        rest.remove_prefix(part.size());
        piece = piece * 2 % 61 + 1;
        const auto appended = buffer.append(part);
        while (const auto line = buffer.next_line()) {
            const auto request = parse_control_request(*line);
            const std::string answer = request ? control_result_line(request->id, request->params)
                                               : control_error_line(Json(), request.error());
            // Whatever came in, one line of JSON goes out.
            if (answer.find('\n') != answer.size() - 1 || !Json::parse(answer)) {
                std::abort();
            }
        }
        if (!appended) {
            break;
        }
    }
    return 0;
}
