#include "compute/driver/extra_spec.h"

#include <charconv>

namespace kumoi::compute {
namespace {

std::optional<ExtraSpec> find(const Properties& properties, const char* kind,
                              const std::string& name) {
    const auto found = properties.find(name);
    if (found == properties.end()) {
        return std::nullopt;
    }
    return ExtraSpec{fmt::format("{} {}", kind, name), found->second};
}

}  // namespace

Error ExtraSpec::invalid(std::string_view why) const {
    return Error::invalid("{}={}: {}", name, value, why)
        .with_hint("Correct the property, or remove it.")
        .with_fault("InvalidInput");
}

Result<int64_t> ExtraSpec::number(int64_t min, int64_t max) const {
    int64_t read = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), read);
    if (error != std::errc() || end != value.data() + value.size() || read < min || read > max) {
        return invalid(fmt::format("expected a number from {} to {}", min, max));
    }
    return read;
}

std::optional<ExtraSpec> flavor_spec(const Instance& instance, const std::string& name) {
    return find(instance.flavor.extra_specs, "Extra spec", name);
}

std::optional<ExtraSpec> image_spec(const Instance& instance, const std::string& name) {
    return find(instance.image.properties, "Image property", name);
}

std::optional<ExtraSpec> flavor_or_image(const Instance& instance, const std::string& spec,
                                         const std::string& property) {
    auto found = flavor_spec(instance, spec);
    return found ? found : image_spec(instance, property);
}

}  // namespace kumoi::compute
