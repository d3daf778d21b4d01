// kumoi server export.
#include <fcntl.h>
#include <unistd.h>

#include "api/cli/archive/manifest.h"
#include "api/cli/archive/ovf.h"
#include "api/cli/archive/tar.h"
#include "api/cli/find.h"
#include "api/cli/image_transfer.h"
#include "api/cli/server_archive.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::cli {
namespace {

constexpr uint64_t kMib = 1u << 20;
constexpr int64_t kConvertTimeoutMs = 6 * 3600 * 1000;

bool ends_with(const std::string& text, std::string_view ending) {
    return text.size() > ending.size() && text.ends_with(ending);
}

Result<std::string> take_image(Session& session, const Json& server) {
    const std::string id = server.string_or("id");
    const Json body = Json::object(
        {{"createImage",
          Json::object({{"name", fmt::format("export of {}", server.string_or("name"))},
                        {"metadata", Json::object({{"kumoi_export_of", id}})}})}});
    const Json answer =
        TRY(TRY(session.cloud())->post("compute", "/servers/" + id + "/action", body));
    const std::string image = answer.string_or("image_id");
    if (image.empty()) {
        return Error::corrupt("the Compute API did not say which image it makes");
    }
    return image;
}

ServerManifest describe(const Json& server, const Json& image) {
    ServerManifest manifest;
    manifest.name = server.string_or("name");
    if (const Json* flavor = server.find("flavor")) {
        manifest.vcpus = static_cast<uint32_t>(flavor->integer_or("vcpus", 1));
        manifest.memory_mib = static_cast<uint64_t>(flavor->integer_or("ram", 0));
        manifest.disk_gib = static_cast<uint64_t>(flavor->integer_or("disk", 0));
    }
    if (const Json* addresses = server.find("addresses"); addresses && addresses->is_object()) {
        for (const auto& [network, list] : addresses->as_object()) {
            manifest.networks.push_back(network);
        }
    }
    if (const Json* metadata = server.find("metadata"); metadata && metadata->is_object()) {
        for (const auto& [key, value] : metadata->as_object()) {
            manifest.metadata[key] = cell_text(&value);
        }
    }
    for (const auto& [key, value] : image.as_object()) {
        if (is_portable_property(key) && value.is_string()) {
            manifest.image_properties[key] = value.as_string();
        }
    }
    manifest.disk_format = image.string_or("disk_format");
    manifest.min_disk_gib = static_cast<uint64_t>(image.integer_or("min_disk"));
    manifest.kernel = !image.string_or("kernel_id").empty();
    manifest.ramdisk = !image.string_or("ramdisk_id").empty();
    return manifest;
}

// One image's bytes into the archive under `name`; its digest line.
Result<std::string> archive_image(Session& session, TarWriter& archive, const std::string& id,
                                  const std::string& name) {
    const Json image = TRY(TRY(session.cloud())->get("image", "/images/" + id));
    TRY(archive.begin(name, static_cast<uint64_t>(image.integer_or("size"))));
    Digest digest(DigestKind::Sha256);
    TRY(download_image(session, image, [&](std::span<const std::byte> bytes) {
        digest.update(bytes);
        return archive.write(bytes);
    }));
    return digest.finish_hex() + "  " + name + "\n";
}

Result<void> write_kumoi(Session& session, int fd, const Json& server, const Json& image) {
    const ServerManifest manifest = describe(server, image);
    TarWriter archive(fd);
    const std::string text = write_manifest(manifest);
    TRY(archive.add(kManifestName, text));
    std::string digests = digest_hex(DigestKind::Sha256, text) + "  " + kManifestName + "\n";
    digests += TRY(archive_image(session, archive, image.string_or("id"), "disk0"));
    if (manifest.kernel) {
        digests += TRY(archive_image(session, archive, image.string_or("kernel_id"), "kernel"));
    }
    if (manifest.ramdisk) {
        digests += TRY(archive_image(session, archive, image.string_or("ramdisk_id"), "ramdisk"));
    }
    TRY(archive.add(kDigestsName, digests));
    return archive.finish();
}

struct OvfParts {
    std::string descriptor;
    std::string manifest;
    std::string disk_path;
};

// The disk as VMDK in `folder`, and the texts that go with it.
Result<OvfParts> make_ovf(Session& session, const std::string& folder, const std::string& base,
                          const Json& server, const Json& image) {
    const ServerManifest about = describe(server, image);
    if (about.kernel) {
        return Error::unsupported(
                   "{} is started from a kernel outside its disk; OVF cannot say "
                   "that",
                   about.name)
            .with_hint("export it as a kumoi archive: a file name without .ova or .ovf");
    }
    const std::string source = folder + "/source";
    {
        const UniqueFd file = TRY(open_file(source, O_WRONLY | O_CREAT | O_EXCL, 0600));
        TRY(download_image(session, image, [&](std::span<const std::byte> bytes) {
            return write_all(file.get(), bytes);
        }));
    }
    OvfParts parts;
    parts.disk_path = folder + "/" + base + "-disk0.vmdk";
    session.out.say(" making a VMDK of it");
    TRY(run_checked({"qemu-img", "convert", "-f", about.disk_format, "-O", "vmdk", "-o",
                     "subformat=streamOptimized", source, parts.disk_path},
                    {.timeout_ms = kConvertTimeoutMs}));
    const Json info = TRY(Json::parse(
        TRY(run_checked({"qemu-img", "info", "--output=json", "-f", about.disk_format, source}))));
    TRY(remove_file(source));
    OvfMachine machine;
    machine.name = about.name;
    machine.vcpus = about.vcpus;
    machine.memory_mib = about.memory_mib;
    const auto firmware = about.image_properties.find("hw_firmware_type");
    machine.uefi = firmware != about.image_properties.end() && firmware->second == "uefi";
    machine.networks = about.networks;
    const uint64_t disk_size = TRY(file_size(parts.disk_path));
    const std::string disk_digest = TRY(file_digest(parts.disk_path));
    machine.disks.push_back(
        {base + "-disk0.vmdk", disk_size, static_cast<uint64_t>(info.integer_or("virtual-size"))});
    parts.descriptor = write_ovf(machine);
    parts.manifest = write_ovf_manifest(
        {{base + ".ovf", "SHA256", digest_hex(DigestKind::Sha256, parts.descriptor)},
         {base + "-disk0.vmdk", "SHA256", disk_digest}});
    return parts;
}

Result<void> write_ova(int fd, const std::string& base, const OvfParts& parts) {
    TarWriter archive(fd);  // DSP0243 §5.3: the descriptor first, then the manifest
    TRY(archive.add(base + ".ovf", parts.descriptor));
    TRY(archive.add(base + ".mf", parts.manifest));
    TRY(archive.begin(base + "-disk0.vmdk", TRY(file_size(parts.disk_path))));
    TRY(read_pieces(parts.disk_path,
                    [&archive](std::span<const std::byte> bytes) { return archive.write(bytes); }));
    return archive.finish();
}

// `path` without folder and ending, as a plain name.
std::string base_name(const std::string& path) {
    std::string name = path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
    name = name.substr(0, name.rfind('.'));
    for (char& c : name) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
        c = plain ? c : '_';
    }
    return name.empty() ? "server" : name.substr(0, 64);
}

std::string folder_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// Writes to a file beside `path` and moves it there when it is whole and on the disk.
Result<void> write_whole(const std::string& path,
                         const std::function<Result<void>(int fd)>& write) {
    const std::string partial = path + ".partial";
    UniqueFd file = TRY(open_file(partial, O_WRONLY | O_CREAT | O_TRUNC, 0600));
    Result<void> outcome = write(file.get());
    if (outcome && fsync(file.get()) != 0) {
        outcome = Error::from_errno(errno, fmt::format("writing {}", partial));
    }
    if (outcome && rename(partial.c_str(), path.c_str()) != 0) {
        outcome = Error::from_errno(errno, fmt::format("naming {}", path));
    }
    if (!outcome) {
        (void)remove_file(partial);
        return outcome;
    }
    return sync_directory(folder_of(path));
}

Result<void> write_out(Session& session, const std::string& output, const Json& server,
                       const Json& image) {
    const bool ova = ends_with(output, ".ova");
    if (!ova && !ends_with(output, ".ovf")) {
        return write_whole(output, [&](int fd) { return write_kumoi(session, fd, server, image); });
    }
    const auto folder = TRY(TemporaryDirectory::create("kumoi-export"));
    const std::string base = base_name(output);
    const OvfParts parts = TRY(make_ovf(session, folder.path(), base, server, image));
    if (ova) {
        return write_whole(output, [&](int fd) { return write_ova(fd, base, parts); });
    }
    const std::string target = folder_of(output) + "/" + base;
    TRY(run_checked({"cp", "--sparse=always", "--", parts.disk_path, target + "-disk0.vmdk"},
                    {.timeout_ms = kConvertTimeoutMs}));
    TRY(write_file_atomic(target + ".mf", parts.manifest));
    return write_file_atomic(output, parts.descriptor);
}

}  // namespace

Result<void> export_server(Session& session, const ExportOptions& options) {
    if (path_exists(options.output) && !options.overwrite) {
        return Error::conflict("{} exists", options.output).with_hint("--overwrite replaces it");
    }
    Cloud* cloud = TRY(session.cloud());
    const Json found = TRY(find_one(
        "server", TRY(cloud->list("compute", "/servers/detail", "servers")), options.server));
    const Json answer = TRY(cloud->get("compute", "/servers/" + found.string_or("id")));
    const Json* server = answer.find("server");
    if (server == nullptr) {
        return Error::corrupt("the Compute API answered without the server");
    }
    if (const Json* volumes = server->find("os-extended-volumes:volumes_attached");
        volumes != nullptr && volumes->size() != 0) {
        session.out.say(
            fmt::format(" its {} volumes are not part of the archive", volumes->size()));
    }
    session.out.say(fmt::format(" taking an image of {}", server->string_or("name")));
    const std::string id = TRY(take_image(session, *server));
    TemporaryImages image(session);
    image.add(id);
    const Json ready = TRY(wait_for_image(session, id));
    TRY_CONTEXT(write_out(session, options.output, *server, ready), "exporting {}",
                server->string_or("name"));
    session.out.say(
        fmt::format(" {}  {} MiB", options.output, TRY(file_size(options.output)) / kMib));
    return {};
}

}  // namespace kumoi::cli
