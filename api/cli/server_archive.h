// kumoi server export and import: a server of any OpenStack cloud as one file, and back.
//
// export: an image of the server's root disk is taken (running servers go on), streamed into the
// archive and deleted again. import: everything is unpacked and its digests checked before the
// cloud
// hears of it; then the disk becomes an image and the image a server. The file name's ending
// chooses:
// .ova and .ovf for others' tools (disks as stream-optimized VMDK, made by qemu-img), anything else
// is a kumoi archive. Blocking.
#pragma once

#include <string>
#include <vector>

#include "api/cli/session.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

struct ExportOptions {
    std::string server;
    std::string output;
    bool overwrite = false;
};
Result<void> export_server(Session& session, const ExportOptions& options);

struct ImportOptions {
    std::string input;
    std::string name;                   // empty: as in the archive
    std::string flavor;                 // empty: the smallest that has what the archive says
    std::vector<std::string> networks;  // empty: those the archive names, else the only one
    std::string key_name;
    bool keep_image = false;
    bool image_only = false;  // do not launch
};
Result<void> import_server(Session& session, const ImportOptions& options);

// The smallest flavor with at least this much.
Result<Json> choose_flavor_for(const Json::Array& flavors, uint32_t vcpus, uint64_t memory_mib,
                               uint64_t disk_gib);

}  // namespace kumoi::cli
