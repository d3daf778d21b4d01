#include "migration/upgrade/upgrade_request.h"

#include <sys/stat.h>

#include <cerrno>

namespace kumoi::migration {

namespace {
enum Field : uint16_t { kFieldDevice = 1, kFieldInode = 2 };  // of the section; never reused
}  // namespace

Result<MigrationRequest> parse_upgrade_request(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"id", "journal", "epoch", "connections"}));
    MigrationRequest request;
    const std::string id = TRY(view.string("id"));
    const auto uuid = Uuid::parse(id);
    if (!uuid) {
        return Error::invalid("params.id: \"{}\" is not a UUID", id);
    }
    request.id = *uuid;
    request.journal = TRY(view.string("journal"));
    request.epoch = static_cast<uint64_t>(TRY(view.integer_or("epoch", 0, {0, INT64_MAX - 2})));
    for (const JsonView& name : TRY(view.array("connections"))) {
        request.connections.push_back(TRY(name.as_string()));
    }
    if (request.connections.size() != 1) {
        return Error::invalid("params.connections: {} were given, one is needed",
                              request.connections.size());
    }
    return request;
}

Result<MemoryIdentity> MemoryIdentity::of(int file) {
    struct stat status {};
    if (::fstat(file, &status) != 0) {
        return Error::from_errno(errno, "looking at the guest's memory");
    }
    return MemoryIdentity{status.st_dev, status.st_ino};
}

hypervisor::SectionWriter MemoryIdentity::save() const {
    hypervisor::SectionWriter out(std::string(kSection), 1);
    out.u64(kFieldDevice, device).u64(kFieldInode, inode);
    return out;
}

Result<MemoryIdentity> MemoryIdentity::load(hypervisor::SectionReader& in) {
    MemoryIdentity identity;
    identity.device = TRY(in.u64(kFieldDevice));
    identity.inode = TRY(in.u64(kFieldInode));
    TRY(in.finish());
    return identity;
}

}  // namespace kumoi::migration
