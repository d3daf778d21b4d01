#include "hypervisor/upgrade/heir_files.h"

namespace kumoi::hypervisor {

template <class Open>
Result<UniqueFd> HeirFiles::have(const std::string& name, const Open& open) {
    UniqueFd fd = heritage_.take(name);
    if (!fd.is_open()) {
        fd = TRY(open());
    }
    heritage_.remember(name, fd.get());
    return fd;
}

Result<UniqueFd> HeirFiles::open(const std::string& path, int flags, unsigned mode) {
    if (!shared_.contains(path)) {
        return files_.open(path, flags, mode);
    }
    return have(path, [&] { return files_.open(path, flags, mode); });
}

Result<UniqueFd> HeirFiles::open_tap(const std::string& interface, bool multi_queue) {
    return have("tap:" + interface, [&] { return files_.open_tap(interface, multi_queue); });
}

Result<UniqueFd> HeirFiles::listen(const std::string& path, unsigned mode) {
    return have("listen:" + path, [&] { return files_.listen(path, mode); });
}

Result<UniqueFd> HeirFiles::listen_tcp(const std::string& host, uint16_t port) {
    return have("tcp:" + tcp_name(host, port), [&] { return files_.listen_tcp(host, port); });
}

void HeirFiles::remove_socket(const std::string& path) {
    if (!given_away_) {
        files_.remove_socket(path);
    }
}

}  // namespace kumoi::hypervisor
