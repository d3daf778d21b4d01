// Bytes of a hostile control client, in pieces as a socket gives them: cut into lines, parsed,
// answered.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <fcntl.h>

#include "hypervisor/control/protocol.h"
#include "hypervisor/sandbox/file_source.h"

namespace {

// What a request names never fills the table for good, whatever the names are.
void take_descriptors(const std::vector<std::string>& names) {
    using namespace kumoi;
    using namespace kumoi::hypervisor;
    PassedFiles table;
    {
        const PassedFiles::Visit visit(table);
        for (const std::string& name : names) {
            auto file = open_file("/dev/null", O_RDWR);
            if (file.ok() && table.put_named(name, std::move(*file)).ok()) {
                (void)table.open(name, O_RDONLY);
            }
        }
    }
    if (table.size() != 0 || names.size() > kControlFdsMax) {
        std::abort();
    }
}

}  // namespace

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
            if (request && !request->fds.empty()) {
                take_descriptors(request->fds);
            }
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
