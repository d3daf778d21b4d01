// When is a host overloaded? The five detectors of Beloglazov and Buyya 2012, section 5: a fixed
// threshold (thr), thresholds from the median absolute deviation (mad) or the interquartile range
// (iqr) of its past load, and a prediction by local regression (lr, lrr). Pure functions.
#pragma once

#include <string_view>

#include "sim/planetlab/load_history.h"

namespace kumoi::sim {

enum class Detector { Threshold, MedianDeviation, QuartileRange, Regression, RobustRegression };

// What a detector knows of a host.
struct HostLoad {
    double requested_mips;
    double total_mips;
    int ram_max_mib;  // of its machines: the longest migration it may have
    const HostHistory& history;
};

struct DetectorOptions {
    Detector kind = Detector::Regression;
    // thr: the threshold, 0 to 1; mad, iqr: how strongly the deviation lowers it; lr, lrr: the
    // prediction is multiplied by it.
    double parameter = 1.2;
    // Weighs the samples as the paper says. Without it as CloudSim 3.0.3, where lr and lrr are both
    // plain least squares.
    bool weighted = false;
};

// The paper's choice for each.
double default_parameter(Detector detector);
bool is_overloaded(const DetectorOptions& options, const HostLoad& load);

// Exposed for its tests.
struct Line {
    double intercept;
    double slope;
};
// Least squares of y over x = 1, 2, ... with a weight for each point.
Line fit_line(const double* y, const double* weights, size_t count);
double median(double* values, size_t count);  // sorts them

}  // namespace kumoi::sim
