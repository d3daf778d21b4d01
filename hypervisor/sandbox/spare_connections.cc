#include "hypervisor/sandbox/spare_connections.h"

#include <map>
#include <mutex>

namespace kumoi::hypervisor {
namespace {

struct Spares {
    std::mutex mutex;
    std::map<std::string, UniqueFd> by_path;
};

Spares& spares() {
    static Spares all;
    return all;
}

}  // namespace

Result<void> offer_connection(const std::string& path, UniqueFd connection) {
    Spares& all = spares();
    const std::lock_guard lock(all.mutex);
    if (!all.by_path.contains(path) && all.by_path.size() >= kSpareConnectionsMax) {
        return Error::exhausted("{} connections wait for their use already", kSpareConnectionsMax);
    }
    all.by_path[path] = std::move(connection);
    return {};
}

Result<UniqueFd> take_offered_connection(const std::string& path) {
    Spares& all = spares();
    const std::lock_guard lock(all.mutex);
    auto found = all.by_path.extract(path);
    if (found.empty()) {
        return Error::unavailable("no connection to {} was offered", path);
    }
    return std::move(found.mapped());
}

}  // namespace kumoi::hypervisor
