#include "api/nova/provider_facts.h"

#include <map>

#include "base/json.h"
#include "compute/driver/cpu_set.h"

namespace kumoi::nova {
namespace {

// Flag of /proc/cpuinfo -> end of the trait's name.
const std::map<std::string_view, std::string_view>& traits_by_flag() {
    static const std::map<std::string_view, std::string_view> kTraits = {
        {"3dnow", "3DNOW"},
        {"abm", "ABM"},
        {"aes", "AESNI"},
        {"avx", "AVX"},
        {"avx2", "AVX2"},
        {"avx512_bitalg", "AVX512BITALG"},
        {"avx512bw", "AVX512BW"},
        {"avx512cd", "AVX512CD"},
        {"avx512dq", "AVX512DQ"},
        {"avx512er", "AVX512ER"},
        {"avx512f", "AVX512F"},
        {"avx512ifma", "AVX512IFMA"},
        {"avx512pf", "AVX512PF"},
        {"avx512vbmi", "AVX512VBMI"},
        {"avx512_vbmi2", "AVX512VBMI2"},
        {"avx512vl", "AVX512VL"},
        {"avx512_vnni", "AVX512VNNI"},
        {"avx512_vpopcntdq", "AVX512VPOPCNTDQ"},
        {"bmi1", "BMI"},
        {"bmi2", "BMI2"},
        {"pclmulqdq", "CLMUL"},
        {"f16c", "F16C"},
        {"fma", "FMA3"},
        {"fma4", "FMA4"},
        {"mmx", "MMX"},
        {"mpx", "MPX"},
        {"sha_ni", "SHA"},
        {"sse", "SSE"},
        {"sse2", "SSE2"},
        {"pni", "SSE3"},
        {"sse4_1", "SSE41"},
        {"sse4_2", "SSE42"},
        {"sse4a", "SSE4A"},
        {"ssse3", "SSSE3"},
        {"tbm", "TBM"},
        {"rtm", "TSX"},
        {"xop", "XOP"},
    };
    return kTraits;
}

}  // namespace

clients::Traits cpu_traits(const std::string& cpu_info) {
    clients::Traits traits;
    const auto info = Json::parse(cpu_info);
    if (!info.ok()) {
        return traits;
    }
    const Json* features = info->find("features");
    if (features != nullptr && features->is_array()) {
        for (const Json& feature : features->as_array()) {
            if (!feature.is_string()) {
                continue;
            }
            if (const auto found = traits_by_flag().find(feature.as_string());
                found != traits_by_flag().end()) {
                traits.insert("HW_CPU_X86_" + std::string(found->second));
            }
        }
    }
    const Json* threads = info->find_path({"topology", "threads"});
    if (threads != nullptr && threads->to_int64().value_or(1) > 1) {
        traits.insert("HW_CPU_HYPERTHREADING");
    }
    return traits;
}

const clients::Traits& guest_traits() {
    static const clients::Traits kTraits = {
        "COMPUTE_ARCH_X86_64",          "HW_ARCH_X86_64",
        "COMPUTE_FIRMWARE_BIOS",        "COMPUTE_FIRMWARE_UEFI",
        "COMPUTE_GRAPHICS_MODEL_BOCHS", "COMPUTE_GRAPHICS_MODEL_NONE",
        "COMPUTE_GRAPHICS_MODEL_VGA",   "COMPUTE_GRAPHICS_MODEL_VIRTIO",
        "COMPUTE_NET_VIF_MODEL_VIRTIO", "COMPUTE_STORAGE_BUS_SCSI",
        "COMPUTE_STORAGE_BUS_VIRTIO"};
    return kTraits;
}

Result<ProcessorShares> processor_shares(const Config& config, int64_t host_processors) {
    const std::string shared = config.string("compute", "cpu_shared_set");
    const std::string dedicated = config.string("compute", "cpu_dedicated_set");
    ProcessorShares shares;
    if (!dedicated.empty()) {
        shares.dedicated = static_cast<int64_t>(
            TRY_CONTEXT(compute::parse_cpu_set(dedicated), "[compute] cpu_dedicated_set").size());
    }
    if (!shared.empty()) {
        shares.shared = static_cast<int64_t>(
            TRY_CONTEXT(compute::parse_cpu_set(shared), "[compute] cpu_shared_set").size());
    } else if (dedicated.empty()) {
        shares.shared = host_processors;
    }
    return shares;
}

}  // namespace kumoi::nova
