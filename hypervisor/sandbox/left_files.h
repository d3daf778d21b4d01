// LeftFiles: the socket files and the pid file that a machine leaves behind, and that its launcher
// removes when it has ended: but not what is another's by now, for the guest may go on in a newer
// process (docs/reference/live-upgrade.md), which has the same sockets and the same pid file.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace kumoi::hypervisor {

class LeftFiles {
public:
    // As it is now: a file that takes its place later is not ours.
    void add_socket(const std::string& path);
    // Ours as long as it has this content.
    void add_file(const std::string& path, std::string content);
    void remove() const;

private:
    struct Socket {
        std::string path;
        dev_t device;
        ino_t inode;
    };
    struct File {
        std::string path;
        std::string content;
    };
    std::vector<Socket> sockets_;
    std::vector<File> files_;
};

}  // namespace kumoi::hypervisor
