// kumoi vm inspect, kumoi vm customize: the disk of a stopped machine of this host, through
// kumoi-guestfs.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "api/cli/session.h"
#include "base/json.h"

namespace kumoi::cli {

struct CustomizeOptions {
    std::string vm;
    std::string hostname;
    std::vector<std::string> password_files;  // USER=FILE; the file's first line
    std::vector<std::string> ssh_key_files;   // USER=FILE; a key a line
    std::string network_file;                 // JSON: a list as docs/reference/offline.md says
    bool reset = false;
};

// The request for `kumoi-guestfs customize`; reads the files. Invalid when nothing is asked for.
Result<Json> customize_request(const CustomizeOptions& options);
void add_vm_disk_verbs(CLI::App* noun, Session& session);

}  // namespace kumoi::cli
