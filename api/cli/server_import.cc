// kumoi server import.
#include <algorithm>
#include <tuple>

#include <fcntl.h>

#include "api/cli/archive/manifest.h"
#include "api/cli/archive/ovf.h"
#include "api/cli/archive/tar.h"
#include "api/cli/archive/vmdk_check.h"
#include "api/cli/find.h"
#include "api/cli/image_transfer.h"
#include "api/cli/server_archive.h"
#include "api/cli/server_launch.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::cli {
namespace {

constexpr uint64_t kGib = 1u << 30;
constexpr int64_t kConvertTimeoutMs = 6 * 3600 * 1000;
constexpr size_t kTextMax = 4u << 20;

// What an archive of either kind says, with its disk ready to upload.
struct Unpacked {
    ServerManifest about;
    std::string disk_path;
    std::string kernel_path;
    std::string ramdisk_path;
};

using Digests = std::map<std::string, std::string>;  // SHA-256 by file name

// Every file of the archive into `folder`; texts are also kept.
Result<Digests> unpack(TarReader& archive, const std::string& folder) {
    Digests digests;
    std::vector<std::byte> buffer(1u << 20);
    while (auto entry = TRY(archive.next())) {
        const UniqueFd file =
            TRY_CONTEXT(open_file(folder + "/" + entry->name, O_WRONLY | O_CREAT | O_EXCL, 0600),
                        "{} in the archive", entry->name);
        Digest digest(DigestKind::Sha256);
        while (const size_t size = TRY(archive.read(buffer))) {
            const auto part = std::span<const std::byte>(buffer).first(size);
            digest.update(part);
            TRY(write_all(file.get(), part));
        }
        digests[entry->name] = digest.finish_hex();
    }
    if (digests.empty()) {
        return Error::corrupt("the archive is empty");
    }
    return digests;
}

Result<void> check_digest(const Digests& digests, const std::string& name,
                          const std::string& wanted) {
    const auto found = digests.find(name);
    if (found == digests.end()) {
        return Error::corrupt("the archive lacks {}", name);
    }
    if (found->second != wanted) {
        return Error::corrupt("{} in the archive is damaged: its SHA-256 is {} and should be {}",
                              name, found->second, wanted);
    }
    return {};
}

Result<Unpacked> take_kumoi(const std::string& folder, const Digests& digests) {
    // "HEX  NAME" lines, as sha256sum writes them.
    std::string_view sums;
    const std::string text = TRY_CONTEXT(read_file(folder + "/" + kDigestsName, kTextMax),
                                         "the archive is cut: {} is its last file", kDigestsName);
    sums = text;
    size_t checked = 0;
    while (!sums.empty()) {
        const size_t end = std::min(sums.find('\n'), sums.size());
        const std::string_view line = sums.substr(0, end);
        sums.remove_prefix(std::min(end + 1, sums.size()));
        constexpr size_t kHex = 64;
        if (line.size() < kHex + 3) {
            return Error::corrupt("{} has the line \"{}\"", kDigestsName, line.substr(0, 80));
        }
        TRY(check_digest(digests, std::string(line.substr(kHex + 2)),
                         std::string(line.substr(0, kHex))));
        ++checked;
    }
    if (checked + 1 != digests.size()) {
        return Error::corrupt("the archive has {} files; {} names {}", digests.size(), kDigestsName,
                              checked);
    }
    Unpacked unpacked;
    unpacked.about = TRY(read_manifest(TRY(read_file(folder + "/" + kManifestName, kTextMax))));
    unpacked.disk_path = folder + "/disk0";
    unpacked.kernel_path = unpacked.about.kernel ? folder + "/kernel" : "";
    unpacked.ramdisk_path = unpacked.about.ramdisk ? folder + "/ramdisk" : "";
    for (const std::string& path :
         {unpacked.disk_path, unpacked.kernel_path, unpacked.ramdisk_path}) {
        if (!path.empty() && !path_exists(path)) {
            return Error::corrupt("the archive lacks {}", path.substr(folder.size() + 1));
        }
    }
    return unpacked;
}

Result<void> check_ovf_manifest(const std::string& folder, const std::string& name,
                                const Digests& digests, Session& session) {
    if (!path_exists(folder + "/" + name)) {
        session.out.say(" the archive has no digests; it is taken as it is");
        return {};
    }
    const auto listed = TRY(read_ovf_manifest(TRY(read_file(folder + "/" + name, kTextMax))));
    for (const OvfDigest& digest : listed) {
        if (digest.algorithm == "SHA256") {
            TRY(check_digest(digests, digest.file, digest.hex));
        } else {
            session.out.say(
                fmt::format(" {}: its {} digest is not checked", digest.file, digest.algorithm));
        }
    }
    return {};
}

Result<Unpacked> take_ovf(Session& session, const std::string& folder, const std::string& name,
                          const Digests& digests, const std::string& work) {
    TRY(check_ovf_manifest(folder, name.substr(0, name.size() - 4) + ".mf", digests, session));
    const OvfMachine machine = TRY(read_ovf(TRY(read_file(folder + "/" + name, kOvfMax))));
    for (const std::string& ignored : machine.ignored) {
        session.out.say(fmt::format(" left out: {}", printable(ignored)));
    }
    const OvfDisk& root = machine.disks.front();
    if (machine.disks.size() > 1) {
        return Error::unsupported("the machine has {} disks; one is imported", machine.disks.size())
            .with_hint("import the others as images: openstack image create");
    }
    if (root.file.find('/') != std::string::npos || !path_exists(folder + "/" + root.file)) {
        return Error::corrupt("the descriptor's disk \"{}\" is not in the archive",
                              printable(root.file));
    }
    const std::string disk = folder + "/" + root.file;
    TRY(check_vmdk(disk));
    Unpacked unpacked;
    unpacked.disk_path = work + "/disk0.qcow2";
    session.out.say(" turning its VMDK into qcow2");
    TRY(run_checked({"qemu-img", "convert", "-f", "vmdk", "-O", "qcow2", disk, unpacked.disk_path},
                    {.timeout_ms = kConvertTimeoutMs}));
    unpacked.about.name = machine.name;
    unpacked.about.vcpus = machine.vcpus;
    unpacked.about.memory_mib = machine.memory_mib;
    unpacked.about.disk_gib = (root.capacity_bytes + kGib - 1) / kGib;
    unpacked.about.min_disk_gib = unpacked.about.disk_gib;
    unpacked.about.networks = machine.networks;
    unpacked.about.disk_format = "qcow2";
    if (machine.uefi) {
        unpacked.about.image_properties["hw_firmware_type"] = "uefi";
    }
    return unpacked;
}

Result<Unpacked> unpack_input(Session& session, const std::string& input, const std::string& work) {
    if (input.ends_with(".ovf")) {
        const size_t slash = input.rfind('/');
        const std::string folder = slash == std::string::npos ? "." : input.substr(0, slash);
        const std::string name = input.substr(slash == std::string::npos ? 0 : slash + 1);
        Digests digests;  // of the files that the manifest names, which lie beside it
        const std::string listed = folder + "/" + name.substr(0, name.size() - 4) + ".mf";
        if (path_exists(listed)) {
            for (const OvfDigest& digest :
                 TRY(read_ovf_manifest(TRY(read_file(listed, kTextMax))))) {
                if (digest.file.find('/') == std::string::npos) {
                    digests[digest.file] = TRY(file_digest(folder + "/" + digest.file));
                }
            }
        }
        return take_ovf(session, folder, name, digests, work);
    }
    const UniqueFd file = TRY(open_file(input, O_RDONLY));
    TarReader archive(file.get());
    const std::string folder = work + "/files";
    TRY(make_directories(folder, 0700));
    session.out.say(fmt::format(" unpacking {}", input));
    const Digests digests = TRY_CONTEXT(unpack(archive, folder), "{}", input);
    if (digests.contains(kManifestName)) {
        return TRY_CONTEXT(take_kumoi(folder, digests), "{}", input);
    }
    for (const auto& [name, digest] : digests) {
        if (name.ends_with(".ovf")) {
            return TRY_CONTEXT(take_ovf(session, folder, name, digests, work), "{}", input);
        }
    }
    return Error::unsupported("{} holds neither {} nor an OVF descriptor", input, kManifestName);
}

Result<std::string> upload(Session& session, TemporaryImages& images, const NewImage& image,
                           const std::string& path) {
    std::string id = TRY(upload_image(session, image, path));
    images.add(id);
    return id;
}

Result<std::string> upload_all(Session& session, TemporaryImages& images, const Unpacked& unpacked,
                               const std::string& name) {
    NewImage image{.name = name,
                   .disk_format = unpacked.about.disk_format,
                   .min_disk_gib = unpacked.about.min_disk_gib,
                   .properties = unpacked.about.image_properties};
    if (!unpacked.kernel_path.empty()) {
        image.properties["kernel_id"] =
            TRY(upload(session, images, {.name = name + " kernel", .disk_format = "aki"},
                       unpacked.kernel_path));
    }
    if (!unpacked.ramdisk_path.empty()) {
        image.properties["ramdisk_id"] =
            TRY(upload(session, images, {.name = name + " ramdisk", .disk_format = "ari"},
                       unpacked.ramdisk_path));
    }
    return upload(session, images, image, unpacked.disk_path);
}

// Those the archive names, if this cloud has all of them; else the caller's default.
Result<std::vector<std::string>> choose_networks(Session& session, const ServerManifest& about) {
    const auto here = TRY(TRY(session.cloud())->list("network", "/networks", "networks"));
    std::vector<std::string> ids;
    for (const std::string& name : about.networks) {
        const auto network = find_one("network", here, name);
        if (!network) {
            session.out.say(
                fmt::format(" no network {} here: choosing as launch does", printable(name)));
            return std::vector<std::string>{};
        }
        ids.push_back(network->string_or("id"));
    }
    return ids;
}

}  // namespace

Result<Json> choose_flavor_for(const Json::Array& flavors, uint32_t vcpus, uint64_t memory_mib,
                               uint64_t disk_gib) {
    const Json* best = nullptr;
    const auto size_of = [](const Json& flavor) {
        return std::tuple(flavor.integer_or("ram"), flavor.integer_or("vcpus"),
                          flavor.integer_or("disk"), flavor.string_or("name"));
    };
    for (const Json& flavor : flavors) {
        const auto disk = static_cast<uint64_t>(flavor.integer_or("disk"));
        const bool enough = static_cast<uint64_t>(flavor.integer_or("vcpus")) >= vcpus &&
                            static_cast<uint64_t>(flavor.integer_or("ram")) >= memory_mib &&
                            (disk == 0 || disk >= disk_gib);
        if (enough && (best == nullptr || size_of(flavor) < size_of(*best))) {
            best = &flavor;
        }
    }
    if (best == nullptr) {
        return Error::exhausted(
                   "the server needs {} vCPUs, {} MiB and {} GiB; none of {} flavors "
                   "has it",
                   vcpus, memory_mib, disk_gib, flavors.size())
            .with_hint(fmt::format("an administrator can make one: openstack flavor create "
                                   "--vcpus {} --ram {} --disk {} NAME",
                                   vcpus, memory_mib, disk_gib));
    }
    return *best;
}

Result<void> import_server(Session& session, const ImportOptions& options) {
    Cloud* cloud = TRY(session.cloud());
    const auto work = TRY(TemporaryDirectory::create("kumoi-import"));
    const Unpacked unpacked = TRY(unpack_input(session, options.input, work.path()));
    const std::string name = options.name.empty() ? unpacked.about.name : options.name;
    LaunchOptions launch{.name = name, .key_name = options.key_name};
    if (!options.image_only) {  // before a byte is uploaded: what may fail, fails now
        const auto flavors = TRY(cloud->list("compute", "/flavors/detail", "flavors"));
        const Json flavor =
            options.flavor.empty()
                ? TRY(choose_flavor_for(
                      flavors, unpacked.about.vcpus, unpacked.about.memory_mib,
                      std::max(unpacked.about.disk_gib, unpacked.about.min_disk_gib)))
                : TRY(find_one("flavor", flavors, options.flavor));
        launch.flavor = flavor.string_or("id");
        launch.networks = options.networks.empty() ? TRY(choose_networks(session, unpacked.about))
                                                   : options.networks;
    }
    TemporaryImages images(session);
    launch.image = TRY(upload_all(session, images, unpacked, name));
    if (options.image_only) {
        images.keep();
        return session.out.record({{"IMAGE", "id"}}, Json::object({{"id", launch.image}}));
    }
    TRY(launch_server(session, launch));
    if (options.keep_image) {
        images.keep();
    }
    return {};
}

}  // namespace kumoi::cli
