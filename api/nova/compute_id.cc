#include "api/nova/compute_id.h"

#include "base/file.h"
#include "base/log.h"
#include "base/uuid.h"

namespace kumoi::nova {
namespace {

constexpr size_t kFileMax = 4096;

}  // namespace

Result<void> settle_compute_id(NodeRecords& records, const std::string& state_path) {
    const std::string path = state_path + "/compute_id";
    std::optional<std::string> own;
    if (path_exists(path)) {
        const std::string text = TRY(read_file(path, kFileMax));
        own = text.substr(0, text.find_last_not_of(" \n\t\r") + 1);
    }
    const auto recorded = TRY(records.recorded_uuid(own));
    if (own || !recorded) {
        return {};
    }
    if (!Uuid::parse(*recorded)) {
        return Error::corrupt("the compute node record has the uuid '{}'", recorded->substr(0, 80));
    }
    TRY(make_directories(state_path));
    log_info("nova", "this host has a compute node record; taking its identity",
             {{"uuid", *recorded}});
    return write_file_atomic(path, *recorded, 0644);
}

}  // namespace kumoi::nova
