#include "api/cli/preflight.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "api/cli/programs.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::cli {
namespace {

constexpr int64_t kMemoryFreeMibMin = 512;
constexpr uint64_t kDiskFreeGibMin = 2;
constexpr int64_t kBuildYearNs = 1'767'225'600LL * kNanosPerSecond;  // 2026-01-01

// The ports of the standalone control plane (ARCHITECTURE.md) and who listens there.
constexpr std::pair<uint16_t, const char*> kPorts[]{{5000, "Identity API"},
                                                    {8774, "Compute API"},
                                                    {9292, "Image API"},
                                                    {9696, "Network API"},
                                                    {9177, "metrics"}};

bool has_word(std::string_view text, std::string_view word) {
    for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
        const char before = at == 0 ? ' ' : text[at - 1];
        const char after = at + word.size() < text.size() ? text[at + word.size()] : ' ';
        const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\t'; };
        if (blank(before) && blank(after)) {
            return true;
        }
    }
    return false;
}

Finding check_device(const std::string& name, const std::string& path, const std::string& module) {
    const UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd.is_open()) {
        return {name, Verdict::Good, path + " usable", ""};
    }
    const Error error = Error::from_errno(errno, path);
    if (error.code == ErrorCode::NotFound) {
        return {name, Verdict::Bad, path + " is missing",
                fmt::format("Load the module ({}), or turn virtualization on in the firmware.",
                            module)};
    }
    return {name, Verdict::Bad, error.message,
            "Run as root, or give the user of kumoi-compute access to it."};
}

Finding check_rights() {
    if (geteuid() == 0) {
        return {"rights", Verdict::Good, "running as root", ""};
    }
    return {"rights", Verdict::Warning, fmt::format("running as user {}", geteuid()),
            "Bridges, TAPs and filters need CAP_NET_ADMIN: start kumoi-compute as root."};
}

Finding check_port(uint16_t port, const char* user) {
    const std::string name = fmt::format("port-{}", port);
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.is_open()) {
        return {name, Verdict::Warning, Error::from_errno(errno, "making a socket").message, ""};
    }
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
        return {name, Verdict::Good, fmt::format("port {} free ({})", port, user), ""};
    }
    return {name, Verdict::Warning, fmt::format("port {} is taken ({})", port, user),
            "Fine when kumoi-compute runs already; else move it in kumoi.conf (option listen)."};
}

Finding check_program(const std::string& program, Verdict when_absent, const std::string& why) {
    const auto found = find_program(program);
    if (found.ok()) {
        return {program, Verdict::Good, found.value(), ""};
    }
    return {program, when_absent, "program " + program + " is missing", why};
}

Finding check_vmm() {
    const auto found = find_kumoi_program("kumoi-vmm");
    if (found.ok()) {
        return {"kumoi-vmm", Verdict::Good, found.value(), ""};
    }
    return {"kumoi-vmm", Verdict::Warning, "program kumoi-vmm is missing",
            "It belongs beside kumoi-compute; see option vmm_path."};
}

Finding check_nftables() {
    Finding finding = check_program("nft", Verdict::Bad, "Install the package nftables.");
    if (finding.verdict != Verdict::Good) {
        return finding;
    }
    const auto listing = run_command({finding.text, "list", "tables"}, {.timeout_ms = 2000});
    if (listing.ok() && listing.value().exit_code == 0) {
        return {"nft", Verdict::Good, "nftables usable", ""};
    }
    return {"nft", Verdict::Warning, "nftables cannot be read",
            "Run as root; the kernel needs CONFIG_NF_TABLES."};
}

// The nearest folder above that exists: the state folder is made at the first start.
std::string existing_parent(std::string path) {
    while (!path_exists(path) && path.size() > 1) {
        path.resize(std::max<size_t>(path.find_last_of('/'), 1));
        if (path.find('/') == std::string::npos) {
            return "/";
        }
    }
    return path;
}

Finding check_disk(const std::string& state_path) {
    struct statvfs info {};
    const std::string path = existing_parent(state_path);
    if (statvfs(path.c_str(), &info) != 0) {
        return {"disk", Verdict::Warning, Error::from_errno(errno, path).message, ""};
    }
    const uint64_t gib = uint64_t{info.f_bavail} * info.f_frsize >> 30;
    const std::string text = fmt::format("{} GiB free for {}", gib, state_path);
    return gib >= kDiskFreeGibMin
               ? Finding{"disk", Verdict::Good, text, ""}
               : Finding{"disk", Verdict::Bad, text,
                         fmt::format("Images and disks need {} GiB at least.", kDiskFreeGibMin)};
}

Finding check_cgroups() {
    if (path_exists("/sys/fs/cgroup/cgroup.controllers")) {
        return {"cgroup", Verdict::Good, "cgroups version 2", ""};
    }
    return {
        "cgroup", Verdict::Warning, "cgroups version 1 or none",
        "Limits of CPU and memory per server need version 2 (systemd.unified_cgroup_hierarchy)."};
}

}  // namespace

Finding judge_processor(std::string_view cpuinfo, bool kvm_usable) {
    const bool hardware = has_word(cpuinfo, "vmx") || has_word(cpuinfo, "svm");
    const bool nested = has_word(cpuinfo, "hypervisor");
    if (hardware) {
        return nested ? Finding{"processor", Verdict::Warning, "nested virtualization",
                                "Slower than on bare metal, fine for trying out."}
                      : Finding{"processor", Verdict::Good, "hardware virtualization", ""};
    }
    if (kvm_usable) {
        return {"processor", Verdict::Warning,
                "KVM without hardware virtualization: guest kernels (ring 0) are slow",
                "Guest programs run at full speed, booting takes long. Use small guests, or a host "
                "with VMX or SVM."};
    }
    return {
        "processor", Verdict::Bad, "the processor offers no virtualization",
        "Turn VMX or SVM on in the firmware, or nested virtualization in the outer hypervisor."};
}

Finding judge_memory(std::string_view meminfo) {
    constexpr std::string_view kKey = "MemAvailable:";
    const size_t at = meminfo.find(kKey);
    int64_t kib = -1;
    if (at != std::string_view::npos) {
        std::string_view rest = meminfo.substr(at + kKey.size());
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
        std::from_chars(rest.data(), rest.data() + rest.size(), kib);
    }
    if (kib < 0) {
        return {"memory", Verdict::Warning, "the free memory is unknown", ""};
    }
    const int64_t mib = kib / 1024;
    const std::string text = fmt::format("{} MiB of memory available", mib);
    return mib >= kMemoryFreeMibMin
               ? Finding{"memory", Verdict::Good, text, ""}
               : Finding{"memory", Verdict::Warning, text, "Only the smallest guests will fit."};
}

Finding judge_clock(int64_t wall_ns) {
    if (wall_ns < kBuildYearNs) {
        return {"clock", Verdict::Bad, "the clock says " + iso8601(wall_ns),
                "Set it (chrony, systemd-timesyncd): tokens and certificates depend on it."};
    }
    return {"clock", Verdict::Good, "the clock says " + iso8601(wall_ns), ""};
}

std::vector<Finding> preflight(const std::string& state_path, const Clock& clock) {
    std::vector<Finding> findings;
    findings.push_back(check_device("kvm", "/dev/kvm", "kvm_intel or kvm_amd"));
    const bool kvm_usable = findings.back().verdict == Verdict::Good;
    findings.push_back(judge_processor(read_file("/proc/cpuinfo").value_or(""), kvm_usable));
    findings.push_back(check_device("tap", "/dev/net/tun", "tun"));
    findings.push_back(check_rights());
    findings.push_back(check_nftables());
    findings.push_back(check_program(
        "dnsmasq", Verdict::Bad, "Install the package dnsmasq-base: guests get addresses by it."));
    findings.push_back(check_program("ip", Verdict::Bad, "Install the package iproute2."));
    findings.push_back(check_program("qemu-img", Verdict::Warning,
                                     "Install the package qemu-utils to use qcow2 images."));
    findings.push_back(check_vmm());
    findings.push_back(judge_memory(read_file("/proc/meminfo").value_or("")));
    findings.push_back(check_disk(state_path));
    findings.push_back(check_cgroups());
    findings.push_back(judge_clock(clock.wall_ns()));
    for (const auto& [port, user] : kPorts) {
        findings.push_back(check_port(port, user));
    }
    return findings;
}

}  // namespace kumoi::cli
