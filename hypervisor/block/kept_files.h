// KeptFiles: opens files through another FileSource and keeps each of them, so that a disk which
// was given free can be opened again where nothing can be opened any more (in the sandbox).
//
// What is kept shares its locks with what was handed out: unlock() gives them up, and so does the
// end of the KeptFiles. Loop thread.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class KeptFiles final : public FileSource {
public:
    explicit KeptFiles(FileSource& files) : files_(files) {}

    // Anew where that is possible; else what was opened before with the same flags.
    Result<UniqueFd> open(const std::string& path, int flags, unsigned mode = 0644) override;
    Result<UniqueFd> open_tap(const std::string& interface, bool multi_queue = false) override {
        return files_.open_tap(interface, multi_queue);
    }
    Result<UniqueFd> listen(const std::string& path, unsigned mode = 0600) override {
        return files_.listen(path, mode);
    }
    Result<UniqueFd> listen_tcp(const std::string& host, uint16_t port) override {
        return files_.listen_tcp(host, port);
    }
    Result<UniqueFd> connect(const std::string& path) override { return files_.connect(path); }
    Result<Connector> connector(const std::string& path) override { return files_.connector(path); }
    Result<PortConnector> port_connector(const std::string& path) override {
        return files_.port_connector(path);
    }
    void remove_socket(const std::string& path) override { files_.remove_socket(path); }

    void unlock();
    // What the host's page cache has of them goes to their disks: a sync that follows is short.
    void write_back() const;

private:
    FileSource& files_;
    std::map<std::pair<std::string, int>, UniqueFd> kept_;
};

}  // namespace kumoi::hypervisor
