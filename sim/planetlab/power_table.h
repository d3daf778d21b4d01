// What a server draws at each load: published SPECpower_ssj2008 results (spec.org/power_ssj2008).
// Pure functions.
#pragma once

#include <array>
#include <cmath>
#include <string_view>

namespace kumoi::sim {

struct PowerTable {
    std::string_view name;
    std::array<double, 11> watts;  // at 0, 10, ... 100 % load

    // Watts at `load` (0 to 1), straight lines between the points. Beyond 1 as at 1. The order of
    // the floating-point operations is part of the contract: choices between hosts hang on the last
    // bit (docs/reference/planetlab.md).
    double at(double load) const {
        const double tenths = (load > 1 ? 1.0 : load) * 10;
        const double below = std::floor(tenths);
        const double low = watts[static_cast<size_t>(below)];
        const double high = watts[static_cast<size_t>(std::ceil(tenths))];
        return low + (high - low) / 10 * ((load > 1 ? 1.0 : load) - below / 10) * 100;
    }
    double maximum() const { return watts.back(); }
};

inline constexpr PowerTable kProLiantMl110G4 = {
    "HP ProLiant ML110 G4 (Xeon 3040)", {86, 89.4, 92.6, 96, 99.5, 102, 106, 108, 112, 114, 117}};
inline constexpr PowerTable kProLiantMl110G5 = {
    "HP ProLiant ML110 G5 (Xeon 3075)", {93.7, 97, 101, 105, 110, 116, 121, 125, 129, 133, 135}};

}  // namespace kumoi::sim
