#include "hypervisor/image_tool/commands.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/json.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/check.h"
#include "hypervisor/block/qcow2/dirty_bitmap.h"
#include "hypervisor/block/qcow2/offline.h"
#include "hypervisor/block/qcow2/tables.h"
#include "hypervisor/image_tool/arguments.h"

namespace kumoi::hypervisor::image_tool {

namespace {

using qcow2::BlockingPort;
using qcow2::ChainEntry;
using qcow2::CreateOptions;
using qcow2::ExtentKind;
using qcow2::MappedExtent;

const std::vector<std::string> kCreateOptions = {"--cluster-size", "--version", "--refcount-bits",
                                                 "--compression", "--preallocation"};
const std::vector<std::string> kCreateFlags = {"--extended-l2", "--lazy-refcounts"};

std::vector<std::string> with(std::vector<std::string> list, const std::vector<std::string>& more) {
    list.insert(list.end(), more.begin(), more.end());
    return list;
}

Result<uint32_t> exponent(const std::string& text, const std::string& what) {
    const uint64_t number = TRY(parse_size(text));
    if (!std::has_single_bit(number)) {
        return Error::invalid("{} {} is not a power of two", what, text);
    }
    return static_cast<uint32_t>(std::countr_zero(number));
}

Result<CreateOptions> create_options(const Arguments& arguments) {
    CreateOptions options;
    options.version = static_cast<uint32_t>(TRY(parse_size(arguments.value("--version", "3"))));
    options.extended_l2 = arguments.has("--extended-l2");
    options.lazy_refcounts = arguments.has("--lazy-refcounts");
    options.cluster_bits =
        TRY(exponent(arguments.value("--cluster-size", "64K"), "the cluster size"));
    options.refcount_order =
        TRY(exponent(arguments.value("--refcount-bits", "16"), "the refcount width"));
    const std::string compression = arguments.value("--compression", "zlib");
    if (compression != "zlib" && compression != "zstd") {
        return Error::invalid("compression \"{}\" is not zlib or zstd", compression);
    }
    options.compression =
        compression == "zstd" ? qcow2::Compression::Zstd : qcow2::Compression::Zlib;
    const std::string preallocation = arguments.value("--preallocation", "off");
    if (preallocation != "off" && preallocation != "metadata") {
        return Error::invalid("preallocation \"{}\" is not off or metadata", preallocation);
    }
    options.preallocation =
        preallocation == "metadata" ? qcow2::Preallocation::Metadata : qcow2::Preallocation::Off;
    return options;
}

// A format that is not given is taken from the file's first bytes: the user names the file himself.
Result<ChainEntry> named_image(const std::string& path, std::string format) {
    if (format.empty()) {
        const UniqueFd fd = TRY(open_file(path, O_RDONLY));
        std::byte magic[4] = {};
        const size_t size = TRY(pread_some(fd.get(), magic, 0));
        format = qcow2::looks_like_qcow2(std::span(magic, size)) ? "qcow2" : "raw";
    }
    return ChainEntry{path, format};
}

void print(const Json& json) {
    std::printf("%s\n", json.dump_pretty().c_str());
}

}  // namespace

Result<int> create(const Words& words) {
    const auto arguments = TRY(
        Arguments::parse(words, {with(kCreateOptions, {"-b", "-F", "-f"}), kCreateFlags, 1, 2}));
    CreateOptions options = TRY(create_options(arguments));
    options.backing_file = arguments.value("-b");
    options.backing_format = arguments.value("-F");
    if (arguments.name_count() == 2) {
        options.size = TRY(parse_size(arguments.name(1)));
    } else if (options.backing_file.empty()) {
        return Error::invalid("the size is missing");
    }
    if (options.size % 512 != 0) {
        return Error::invalid("{} bytes are no multiple of 512", options.size);
    }
    const std::string& path = arguments.name(0);
    if (arguments.value("-f", "qcow2") == "raw") {
        const UniqueFd fd = TRY(open_file(path, O_RDWR | O_CREAT | O_EXCL));
        if (::ftruncate(fd.get(), static_cast<off_t>(options.size)) != 0) {
            return Error::from_errno(errno, fmt::format("making {}", path));
        }
        return 0;
    }
    TRY(qcow2::create_image_file(direct_files(), path, options));
    return 0;
}

namespace {

Result<Json> describe(const ChainEntry& entry) {
    BlockingPort port;
    const auto file = TRY(qcow2::open_host_file(direct_files(), entry.path, false, false, false));
    struct stat status {};
    (void)::fstat(file->fd, &status);
    Json json = Json::object({{"path", entry.path},
                              {"format", entry.format},
                              {"file_bytes", file->size.load()},
                              {"disk_bytes", static_cast<uint64_t>(status.st_blocks) * 512}});
    if (entry.format == "raw") {
        json.set("virtual_size", file->size.load());
        return json;
    }
    const qcow2::Header header = TRY(qcow2::read_header(port, *file));
    json.set("virtual_size", header.size);
    json.set("version", header.version);
    json.set("cluster_size", header.cluster_size());
    json.set("refcount_bits", 1u << header.refcount_order);
    json.set("compression", header.compression == qcow2::Compression::Zstd ? "zstd" : "zlib");
    json.set("extended_l2", header.extended_l2());
    json.set("lazy_refcounts", header.lazy_refcounts());
    json.set("dirty", (header.incompatible & qcow2::kIncompatibleDirty) != 0);
    json.set("corrupt", (header.incompatible & qcow2::kIncompatibleCorrupt) != 0);
    if (!header.backing_file.empty()) {
        json.set("backing_file", header.backing_file);
        json.set("backing_format", header.backing_format);
    }
    Json snapshots = Json::array();
    for (const auto& snapshot : TRY(qcow2::read_snapshot_table(port, *file, header))) {
        snapshots.push_back(Json::object({{"id", snapshot.id},
                                          {"name", snapshot.name},
                                          {"vm_state_bytes", snapshot.vm_state_bytes},
                                          {"disk_size", snapshot.disk_size}}));
    }
    json.set("snapshots", std::move(snapshots));
    Json bitmaps = Json::array();
    for (const auto& bitmap : TRY(qcow2::read_bitmap_directory(port, *file, header))) {
        const bool valid = (header.autoclear & qcow2::kAutoclearBitmaps) != 0 &&
                           (bitmap.flags & qcow2::kBitmapInUse) == 0;
        bitmaps.push_back(Json::object({{"name", bitmap.name},
                                        {"granularity", uint64_t{1} << bitmap.granularity_bits},
                                        {"enabled", (bitmap.flags & qcow2::kBitmapAuto) != 0},
                                        {"consistent", valid}}));
    }
    json.set("bitmaps", std::move(bitmaps));
    return json;
}

void print_text(const Json& json) {
    for (const auto& [key, value] : json.as_object()) {
        if (value.is_array() && value.size() == 0) {
            continue;
        }
        std::printf("%-15s %s\n", key.c_str(),
                    value.is_string() ? value.as_string().c_str() : value.dump().c_str());
    }
}

}  // namespace

Result<int> info(const Words& words) {
    const auto arguments =
        TRY(Arguments::parse(words, {{"-f"}, {"--json", "--backing-chain"}, 1, 1}));
    const ChainEntry image = TRY(named_image(arguments.name(0), arguments.value("-f")));
    std::vector<ChainEntry> images = {image};
    if (arguments.has("--backing-chain") && image.format == "qcow2") {
        for (ChainEntry& entry : TRY(qcow2::backing_chain(direct_files(), image.path))) {
            images.push_back(std::move(entry));
        }
    }
    Json all = Json::array();
    for (const ChainEntry& entry : images) {
        Json json = TRY(describe(entry));
        if (!arguments.has("--json")) {
            print_text(json);
            std::printf("%s", images.size() > 1 ? "\n" : "");
        }
        all.push_back(std::move(json));
    }
    if (arguments.has("--json")) {
        print(arguments.has("--backing-chain") ? all : all.as_array().front());
    }
    return 0;
}

Result<int> check(const Words& words) {
    const auto arguments = TRY(Arguments::parse(words, {{"--repair"}, {"--json"}, 1, 1}));
    const std::string repair = arguments.value("--repair");
    if (!repair.empty() && repair != "leaks" && repair != "all") {
        return Error::invalid("--repair {}: leaks and all are possible", repair);
    }
    BlockingPort port;
    auto file =
        TRY(qcow2::open_host_file(direct_files(), arguments.name(0), !repair.empty(), false, true));
    qcow2::StoreOptions options;
    options.writable = !repair.empty();
    options.for_check = true;
    const auto store = TRY(qcow2::Store::open(port, std::move(file), options, nullptr));
    const auto mode = repair == "all"     ? qcow2::Repair::Refcounts
                      : repair == "leaks" ? qcow2::Repair::Leaks
                                          : qcow2::Repair::Nothing;
    const qcow2::CheckReport report = TRY(qcow2::check_image(*store, port, mode));
    if (options.writable) {
        TRY(qcow2::finish_repair(*store, port, report));
    }
    if (arguments.has("--json")) {
        print(Json::object({{"leaks", report.leaks},
                            {"corruptions", report.corruptions},
                            {"repaired", report.repaired},
                            {"allocated_clusters", report.data_clusters},
                            {"compressed_clusters", report.compressed_clusters},
                            {"total_clusters", report.total_clusters},
                            {"image_end", report.image_end},
                            {"messages", Json::array_of(report.messages)}}));
    } else {
        for (const std::string& message : report.messages) {
            std::printf("%s\n", message.c_str());
        }
        std::printf("%lu errors, %lu leaked clusters, %lu repaired; %lu of %lu clusters in use\n",
                    report.corruptions, report.leaks, report.repaired, report.data_clusters,
                    report.total_clusters);
    }
    return report.corruptions > 0 ? kExitErrors : report.leaks > 0 ? kExitLeaks : 0;
}

Result<int> resize(const Words& words) {
    const auto arguments = TRY(Arguments::parse(words, {{"-f"}, {"--shrink"}, 2, 2}));
    const ChainEntry image = TRY(named_image(arguments.name(0), arguments.value("-f")));
    std::string text = arguments.name(1);
    const bool relative = text.starts_with('+');
    uint64_t size = TRY(parse_size(relative ? text.substr(1) : text));
    if (relative) {
        size += TRY(describe(image)).find("virtual_size")->to_uint64().value_or(0);
    }
    if (image.format == "qcow2") {
        TRY(qcow2::resize_image(direct_files(), image.path, size, arguments.has("--shrink")));
        return 0;
    }
    const auto file = TRY(qcow2::open_host_file(direct_files(), image.path, true, false, true));
    if (size < file->size && !arguments.has("--shrink")) {
        return Error::conflict("{} has {} bytes; {} would cut off {}", image.path,
                               file->size.load(), size, file->size - size)
            .with_hint("say so with --shrink");
    }
    if (::ftruncate(file->fd, static_cast<off_t>(size)) != 0) {
        return Error::from_errno(errno, fmt::format("resizing {}", image.path));
    }
    return 0;
}

Result<int> convert(const Words& words) {
    const auto arguments = TRY(Arguments::parse(
        words, {with(kCreateOptions, {"-f", "-O"}), with(kCreateFlags, {"-c"}), 2, 2}));
    const std::string format = arguments.value("-O");
    if (format != "raw" && format != "qcow2") {
        return Error::invalid("-O \"{}\" is not raw or qcow2", format);
    }
    BlockingPort port;
    const auto source = TRY(qcow2::open_source(
        direct_files(), port, TRY(named_image(arguments.name(0), arguments.value("-f"))), {}));
    const std::string& target = arguments.name(1);
    qcow2::CopyOptions copy;
    copy.compress = arguments.has("-c");
    if (format == "raw") {
        if (copy.compress) {
            return Error::invalid("a raw image cannot be compressed");
        }
        auto fd = TRY(open_file(target, O_RDWR | O_CREAT | O_EXCL));
        const auto file = TRY(qcow2::adopt_host_file(target, std::move(fd), UniqueFd()));
        TRY(qcow2::copy_to_raw(port, *source, *file, copy));
        return 0;
    }
    CreateOptions options = TRY(create_options(arguments));
    options.size = (source->size() + 511) & ~uint64_t{511};
    TRY(qcow2::create_image_file(direct_files(), target, options));
    const auto store = TRY(qcow2::open_chain(direct_files(), port, target, {}));
    TRY(qcow2::copy_to_store(port, *source, *store, copy));
    TRY(store->close(port));
    return 0;
}

Result<int> map(const Words& words) {
    const auto arguments = TRY(Arguments::parse(words, {{"-f"}, {"--json"}, 1, 1}));
    BlockingPort port;
    const auto source = TRY(qcow2::open_source(
        direct_files(), port, TRY(named_image(arguments.name(0), arguments.value("-f"))), {}));
    Json all = Json::array();
    const bool json = arguments.has("--json");
    if (!json) {
        std::printf("%-18s %-18s %-5s %-10s %s\n", "offset", "size", "depth", "kind", "at");
    }
    TRY(qcow2::map_all(port, *source, [&](const MappedExtent& extent) {
        const char* kind = extent.kind == ExtentKind::Data   ? "data"
                           : extent.kind == ExtentKind::Zero ? "zero"
                                                             : "compressed";
        if (!json) {
            if (extent.kind != ExtentKind::Zero) {
                std::printf("0x%-16lx 0x%-16lx %-5u %-10s 0x%lx\n", extent.offset, extent.size,
                            extent.depth, kind, extent.host);
            }
            return;
        }
        Json item = Json::object({{"offset", extent.offset},
                                  {"size", extent.size},
                                  {"depth", extent.depth},
                                  {"kind", kind}});
        if (extent.kind == ExtentKind::Data) {
            item.set("file_offset", extent.host);
        }
        all.push_back(std::move(item));
    }));
    if (json) {
        print(all);
    }
    return 0;
}

Result<int> commit(const Words& words) {
    const auto arguments = TRY(Arguments::parse(words, {{}, {}, 1, 1}));
    TRY(qcow2::commit_image(direct_files(), arguments.name(0)));
    return 0;
}

Result<int> rebase(const Words& words) {
    const auto arguments = TRY(Arguments::parse(words, {{"-b", "-F"}, {"--unsafe"}, 1, 1}));
    qcow2::RebaseOptions options;
    options.backing_file = arguments.value("-b");
    options.backing_format = arguments.value("-F");
    options.unsafe = arguments.has("--unsafe");
    if (!arguments.has("-b") || options.backing_file.empty() != options.backing_format.empty()) {
        return Error::invalid(
            "-b FILE and -F FORMAT belong together; -b \"\" takes the backing "
            "file away");
    }
    TRY(qcow2::rebase_image(direct_files(), arguments.name(0), options));
    return 0;
}

namespace {

Result<void> change_bitmap(qcow2::DirtyBitmaps& bitmaps, const std::string& verb,
                           const Arguments& arguments) {
    const std::string name = arguments.name_count() > 2 ? arguments.name(2) : "";
    if (verb == "add") {
        return bitmaps.add(name, TRY(parse_size(arguments.value("--granularity", "0"))), true,
                           !arguments.has("--disabled"));
    }
    if (verb == "remove") {
        return bitmaps.remove(name);
    }
    if (verb == "clear") {
        return bitmaps.clear(name);
    }
    if (verb == "enable" || verb == "disable") {
        return bitmaps.set_enabled(name, verb == "enable");
    }
    if (verb == "merge" && arguments.name_count() == 4) {
        return bitmaps.merge(name, arguments.name(3));
    }
    return Error::invalid("\"{}\" is no bitmap command, or its names are missing", verb)
        .with_hint("see kumoi-img --help");
}

void print_bitmaps(const qcow2::DirtyBitmaps& bitmaps) {
    Json all = Json::array();
    for (const qcow2::BitmapInfo& bitmap : bitmaps.list()) {
        all.push_back(Json::object({{"name", bitmap.name},
                                    {"granularity", bitmap.granularity},
                                    {"dirty_bytes", bitmap.dirty_bytes},
                                    {"enabled", bitmap.enabled},
                                    {"consistent", !bitmap.inconsistent}}));
    }
    print(all);
}

}  // namespace

Result<int> bitmap(const Words& words) {
    const auto arguments = TRY(Arguments::parse(words, {{"--granularity"}, {"--disabled"}, 2, 4}));
    BlockingPort port;
    const std::string& verb = arguments.name(0);
    qcow2::ChainOptions options;
    options.store.writable = verb != "list";
    const auto store = TRY(qcow2::open_chain(direct_files(), port, arguments.name(1), options));
    qcow2::DirtyBitmaps bitmaps(*store);
    TRY(bitmaps.load(port));
    if (verb == "list") {
        print_bitmaps(bitmaps);
        return 0;
    }
    TRY(change_bitmap(bitmaps, verb, arguments));
    TRY(bitmaps.save(port));
    TRY(store->close(port));
    return 0;
}

}  // namespace kumoi::hypervisor::image_tool
