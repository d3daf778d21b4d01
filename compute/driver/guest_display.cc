#include "compute/driver/guest_display.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <initializer_list>

#include "compute/driver/guest_firmware.h"

namespace kumoi::compute {
namespace {

constexpr char kVideoModel[] = "hw_video_model";
constexpr char kInputBus[] = "hw_input_bus";
constexpr char kVideoRam[] = "hw_video_ram";
constexpr char kVideoRamMax[] = "hw_video:ram_max_mb";  // extra spec
constexpr uint64_t kMemoryMibMin = 16;
constexpr uint64_t kMemoryMibMax = 64;

std::string property(const Properties& properties, const std::string& name) {
    const auto found = properties.find(name);
    return found == properties.end() ? std::string() : found->second;
}

Error refuse(const std::string& name, const std::string& value, std::string_view wanted) {
    return Error::unsupported("Image property {}={} is not possible here; {}", name, value, wanted)
        .with_hint("Remove the property, or choose another host.")
        .with_fault("ImageUnacceptable");
}

bool one_of(std::string_view value, std::initializer_list<std::string_view> list) {
    return std::ranges::find(list, value) != list.end();
}

// Empty text is 0.
std::optional<uint64_t> number(const std::string& text) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool good = text.empty() || (error == std::errc() && end == text.data() + text.size());
    return good ? std::optional(value) : std::nullopt;
}

// As Nova's RequestedVRamTooHigh: the flavor says how much an image may ask for.
Result<void> check_video_ram(const Instance& instance) {
    const std::string wanted_text = property(instance.image.properties, kVideoRam);
    const auto wanted = number(wanted_text);
    const auto allowed = number(property(instance.flavor.extra_specs, kVideoRamMax));
    if (!wanted || !allowed) {
        return refuse(kVideoRam, wanted_text, "a number of MiB is, in the flavor's limit, too");
    }
    if (*wanted > *allowed) {
        return Error::unsupported(
                   "The requested amount of video memory {} is higher than the maximum allowed by "
                   "flavor {}.",
                   *wanted, *allowed)
            .with_hint("Lower hw_video_ram, or raise the flavor's hw_video:ram_max_mb.")
            .with_fault("RequestedVRamTooHigh");
    }
    if (*wanted > kMemoryMibMax) {
        return refuse(kVideoRam, wanted_text, fmt::format("at most {} MiB are", kMemoryMibMax));
    }
    return {};
}

}  // namespace

Result<void> check_display(const Instance& instance) {
    const Properties& image = instance.image.properties;
    const std::string model = property(image, kVideoModel);
    // vga has the same ids and driver; virtio is what images name that mean Nova's default.
    if (!one_of(model, {"", "bochs", "vga", "virtio", "none"})) {
        return refuse(kVideoModel, model, "'bochs' is, and 'none'");
    }
    const std::string bus = property(image, kInputBus);
    if (!one_of(bus, {"", "virtio", "ps2"})) {
        return refuse(kInputBus, bus, "'virtio' and 'ps2' are");
    }
    return check_video_ram(instance);
}

std::optional<Json> display_config(const Instance& instance, const Properties& image,
                                   const InstanceFolder& folder, const DisplayOptions& options) {
    const BootMethod method = boot_method(image);
    const std::string model = property(instance.image.properties, kVideoModel);
    if (!options.enabled || model == "none" || (model.empty() && method == BootMethod::Kernel)) {
        return std::nullopt;
    }
    const uint64_t asked = number(property(instance.image.properties, kVideoRam)).value_or(0);
    const uint64_t memory = std::bit_ceil(std::clamp(asked, kMemoryMibMin, kMemoryMibMax));
    Json listens = Json::array();
    listens.push_back(Json::object({{"socket", folder.vnc_socket()}}));
    Json display = Json::object({{"memory_mib", memory}, {"vnc", std::move(listens)}});
    if (property(instance.image.properties, kInputBus) == "ps2") {
        display.set("keyboard", false);
        display.set("tablet", false);
    }
    if (method == BootMethod::Bios && !options.vgabios.empty()) {
        display.set("vgabios", options.vgabios);
    }
    return display;
}

}  // namespace kumoi::compute
