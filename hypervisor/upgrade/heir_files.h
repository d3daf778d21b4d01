// HeirFiles: a FileSource that remembers in a Heritage what it hands out and cannot be had twice,
// and hands out what was inherited instead of opening it. Everything else is its source's work.
// Loop thread.
#pragma once

#include <set>
#include <string>

#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/upgrade/heritage.h"

namespace kumoi::hypervisor {

class HeirFiles final : public FileSource {
public:
    explicit HeirFiles(FileSource& files) : files_(files) {}

    // A file that is held by a lock: its newer process needs the same open file.
    void share_file(const std::string& path) { shared_.insert(path); }
    // The machine goes on in a newer process: its sockets are that one's.
    void given_away() { given_away_ = true; }

    Result<UniqueFd> open(const std::string& path, int flags, unsigned mode = 0644) override;
    Result<UniqueFd> open_tap(const std::string& interface, bool multi_queue = false) override;
    Result<UniqueFd> listen(const std::string& path, unsigned mode = 0600) override;
    Result<UniqueFd> listen_tcp(const std::string& host, uint16_t port) override;
    Result<UniqueFd> connect(const std::string& path) override { return files_.connect(path); }
    Result<Connector> connector(const std::string& path) override { return files_.connector(path); }
    Result<PortConnector> port_connector(const std::string& path) override {
        return files_.port_connector(path);
    }
    void remove_socket(const std::string& path) override;
    Heritage* heritage() override { return &heritage_; }

private:
    // The inherited one, or what `open` gives; remembered.
    template <class Open>
    Result<UniqueFd> have(const std::string& name, const Open& open);

    FileSource& files_;
    Heritage heritage_;
    std::set<std::string> shared_;
    bool given_away_ = false;
};

}  // namespace kumoi::hypervisor
