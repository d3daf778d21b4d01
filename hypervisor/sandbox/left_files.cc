#include "hypervisor/sandbox/left_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

namespace kumoi::hypervisor {

namespace {

// Of the sockets of this network namespace: "Num RefCount Protocol Flags Type St Inode Path".
bool somebody_listens(const std::string& table, const std::string& path) {
    constexpr std::string_view kListening = " 00010000 ";
    size_t at = 0;
    while (at < table.size()) {
        const size_t end = std::min(table.find('\n', at), table.size());
        const std::string_view line(table.data() + at, end - at);
        if (line.size() > path.size() && line.ends_with(path) &&
            line[line.size() - path.size() - 1] == ' ' &&
            line.find(kListening) != std::string_view::npos) {
            return true;
        }
        at = end + 1;
    }
    return false;
}

}  // namespace

void LeftFiles::add_socket(const std::string& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
        sockets_.push_back({path, status.st_dev, status.st_ino});
    }
}

void LeftFiles::add_file(const std::string& path, std::string content) {
    files_.push_back({path, std::move(content)});
}

void LeftFiles::remove() const {
    const auto table = read_file("/proc/net/unix");
    for (const Socket& socket : sockets_) {
        struct stat status {};
        const bool ours = ::lstat(socket.path.c_str(), &status) == 0 &&
                          status.st_dev == socket.device && status.st_ino == socket.inode;
        if (ours && !(table && somebody_listens(*table, socket.path))) {
            ::unlink(socket.path.c_str());
        }
    }
    for (const File& file : files_) {
        if (const auto content = read_file(file.path); content && *content == file.content) {
            ::unlink(file.path.c_str());
        }
    }
}

}  // namespace kumoi::hypervisor
