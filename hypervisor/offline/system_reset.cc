#include "hypervisor/offline/system_reset.h"

#include <array>
#include <string_view>

namespace kumoi::hypervisor::offline {
namespace {

constexpr size_t kPathsMax = 10'000;  // of one pattern

constexpr std::array<std::string_view, 2> kEmptied = {"/etc/machine-id",
                                                      "/var/lib/dbus/machine-id"};

constexpr std::array<std::string_view, 22> kRemoved = {
    "/etc/ssh/ssh_host_*",
    "/var/lib/dhcp/*",
    "/var/lib/dhclient/*",
    "/var/lib/NetworkManager/*.lease",
    "/var/lib/NetworkManager/secret_key",
    "/var/lib/NetworkManager/seen-bssids",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/urandom/random-seed",
    "/var/lib/cloud/instance",
    "/var/lib/cloud/instances/*",
    "/var/lib/cloud/data/*",
    "/var/lib/cloud/sem/*",
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/var/log/*.gz",
    "/var/log/*.[0-9]",
    "/var/log/journal/*",
    "/var/log/cloud-init*.log",
    "/root/.bash_history",
    "/home/*/.bash_history",
    "/tmp/*",
    "/var/tmp/*",
};

// Logs that stay there because a daemon may not create them again.
constexpr std::array<std::string_view, 4> kEmptiedLogs = {"/var/log/wtmp", "/var/log/btmp",
                                                          "/var/log/lastlog", "/var/log/*.log"};

Result<void> empty(GuestFiles& files, std::string_view pattern, std::vector<std::string>& done) {
    for (const std::string& path : TRY(files.glob(std::string(pattern)))) {
        if (!TRY(files.is_directory(path))) {
            TRY(files.write(path, "", 0644));
            done.push_back(path);
        }
    }
    return {};
}

}  // namespace

Result<std::vector<std::string>> reset_system(GuestFiles& files) {
    std::vector<std::string> done;
    for (const std::string_view pattern : kRemoved) {
        const auto paths = TRY(files.glob(std::string(pattern)));
        if (paths.size() > kPathsMax) {
            return Error::corrupt("the guest has {} files like {}; at most {} are removed",
                                  paths.size(), pattern, kPathsMax);
        }
        for (const std::string& path : paths) {
            TRY(files.remove(path));
            done.push_back(path);
        }
    }
    for (const std::string_view path : kEmptied) {
        TRY(empty(files, path, done));
    }
    for (const std::string_view pattern : kEmptiedLogs) {
        TRY(empty(files, pattern, done));
    }
    return done;
}

}  // namespace kumoi::hypervisor::offline
