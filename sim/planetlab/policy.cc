#include "sim/planetlab/policy.h"

#include <array>

#include "base/json.h"

namespace kumoi::sim {

namespace {

template <class Kind>
struct Named {
    std::string_view name;
    Kind kind;
};

constexpr std::array<Named<Detector>, 5> kDetectors = {{{"thr", Detector::Threshold},
                                                        {"mad", Detector::MedianDeviation},
                                                        {"iqr", Detector::QuartileRange},
                                                        {"lr", Detector::Regression},
                                                        {"lrr", Detector::RobustRegression}}};
constexpr std::array<Named<Selector>, 4> kSelectors = {{{"mmt", Selector::MinimumMigrationTime},
                                                        {"mc", Selector::MaximumCorrelation},
                                                        {"rs", Selector::RandomSelection},
                                                        {"mu", Selector::MinimumUtilization}}};

std::string joined(std::string_view detector, std::string_view selector) {
    return fmt::format("{}-{}", detector, selector);
}

}  // namespace

std::vector<std::string> policy_names() {
    std::vector<std::string> names;
    for (const auto& detector : kDetectors) {
        for (const auto& selector : kSelectors) {
            names.push_back(joined(detector.name, selector.name));
        }
    }
    names.emplace_back("dvfs");
    names.emplace_back("npa");
    return names;
}

Result<DayOptions> policy_options(std::string_view name) {
    DayOptions options;
    if (name == "dvfs" || name == "npa") {
        options.power = name == "dvfs" ? PowerPolicy::Dvfs : PowerPolicy::None;
        return options;
    }
    for (const auto& detector : kDetectors) {
        for (const auto& selector : kSelectors) {
            if (name == joined(detector.name, selector.name)) {
                options.detector = {detector.kind, default_parameter(detector.kind), false};
                options.selector = selector.kind;
                return options;
            }
        }
    }
    const auto nearest = nearest_name(name, policy_names());
    return Error::invalid("no consolidation policy \"{}\"", name)
        .with_hint(nearest
                       ? fmt::format("did you mean \"{}\"?", *nearest)
                       : "a detector thr, mad, iqr, lr or lrr with a selector mmt, mc, rs or mu "
                         "(as lr-mmt), or dvfs, or npa");
}

}  // namespace kumoi::sim
