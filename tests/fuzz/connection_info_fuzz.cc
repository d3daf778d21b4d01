// What Cinder says about reaching a volume: whatever it is, what qemu-storage-daemon is told names
// one known driver and holds no secret outside of a secret object.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "compute/volumes/connection_info.h"
#include "compute/volumes/storage_daemon.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace kumoi;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)compute::key_in_keyring(text);
    const auto json = Json::parse(text);
    if (!json.ok()) {
        return 0;
    }
    const auto source = compute::parse_connection_info(*json, {.initiator = "iqn.fuzz"});
    if (!source.ok()) {
        return source.error().fault.empty() ? (std::abort(), 0) : 0;
    }
    const auto commands = compute::open_commands(*source, compute::node_name("a-volume"));
    if (commands.size() != source->secrets.size() + 1) {
        std::abort();
    }
    const Json& node = commands.back().second;
    const std::string driver = node.string_or("driver");
    const bool known = driver == "iscsi" || driver == "nfs" || driver == "rbd" ||
                       driver == "qcow2" || driver == "file" || driver == "host_device";
    if (!known || node.string_or("node-name").size() > 31) {
        std::abort();
    }
    return 0;
}
