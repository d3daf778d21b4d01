#include "sim/planetlab/detector.h"

#include <algorithm>
#include <cmath>

namespace kumoi::sim {

namespace {

constexpr double kFallbackThreshold = 0.7;
constexpr size_t kDeviationSamplesMin = 12;
constexpr size_t kRegressionSamples = 10;
constexpr double kSampleSeconds = 300;
constexpr double kMigrationMibPerSecond = 62.5;  // half of 1 Gbit/s

// Samples up to the oldest that is not zero; at least 1.
size_t used_length(const HostHistory& history) {
    size_t length = history.size();
    while (length > 1 && history[length - 1] == 0) {
        --length;
    }
    return length;
}

bool over(const HostLoad& load, double threshold) {
    return load.requested_mips / load.total_mips > threshold;
}

double median_deviation(HostHistory values, size_t count) {
    HostHistory deviations = values;
    const double middle = median(values.data(), count);
    for (size_t i = 0; i < count; ++i) {
        deviations[i] = std::fabs(middle - deviations[i]);
    }
    return median(deviations.data(), count);
}

double quartile_range(HostHistory values, size_t count) {
    std::sort(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
    const auto n = static_cast<double>(count + 1);
    const auto low = static_cast<size_t>(std::floor(0.25 * n + 0.5)) - 1;
    const auto high = static_cast<size_t>(std::floor(0.75 * n + 0.5)) - 1;
    return values[high] - values[low];
}

// Plain least squares, by running means: the order of the operations decides the last bit.
Line fit_plain(const double* y) {
    double x_mean = 1;
    double y_mean = y[0];
    double xx = 0;
    double xy = 0;
    double y_sum = y[0];
    double x_sum = 1;
    for (size_t i = 1; i < kRegressionSamples; ++i) {
        const auto n = static_cast<double>(i);
        const double x = n + 1;
        const double ratio = n / (1 + n);
        const double dx = x - x_mean;
        const double dy = y[i] - y_mean;
        xx += dx * dx * ratio;
        xy += dx * dy * ratio;
        x_mean += dx / (1 + n);
        y_mean += dy / (1 + n);
        x_sum += x;
        y_sum += y[i];
    }
    const double slope = xy / xx;
    return {(y_sum - slope * x_sum) / static_cast<double>(kRegressionSamples), slope};
}

// Cleveland's tricube: 1 at the newest sample, towards 0 at the oldest.
std::array<double, kRegressionSamples> tricube_weights() {
    std::array<double, kRegressionSamples> weights{};
    for (size_t i = 0; i < weights.size(); ++i) {
        const double distance =
            static_cast<double>(weights.size() - 1 - i) / static_cast<double>(weights.size());
        weights[i] = std::pow(1 - std::pow(distance, 3), 3);
    }
    return weights;
}

// The same, and less for samples far from a first fit (bisquare).
Line fit_robust(const double* y, std::array<double, kRegressionSamples> weights) {
    const Line first = fit_line(y, weights.data(), weights.size());
    std::array<double, kRegressionSamples> residuals{};
    std::array<double, kRegressionSamples> sorted{};
    for (size_t i = 0; i < residuals.size(); ++i) {
        residuals[i] = y[i] - (first.intercept + first.slope * static_cast<double>(i + 1));
        sorted[i] = std::fabs(residuals[i]);
    }
    const double scale = 6 * median(sorted.data(), sorted.size());
    if (scale == 0) {
        return first;
    }
    for (size_t i = 0; i < weights.size(); ++i) {
        const double u = std::min(1.0, std::fabs(residuals[i] / scale));
        weights[i] *= std::pow(1 - u * u, 2);
    }
    const Line second = fit_line(y, weights.data(), weights.size());
    return std::isfinite(second.slope) ? second : first;
}

double predict(const DetectorOptions& options, const HostLoad& load) {
    std::array<double, kRegressionSamples> oldest_first{};
    for (size_t i = 0; i < kRegressionSamples; ++i) {
        oldest_first[i] = load.history[kRegressionSamples - 1 - i];
    }
    Line line = fit_plain(oldest_first.data());
    if (options.weighted) {
        const auto weights = tricube_weights();
        line = options.kind == Detector::RobustRegression
                   ? fit_robust(oldest_first.data(), weights)
                   : fit_line(oldest_first.data(), weights.data(), weights.size());
    }
    const double steps = std::ceil(load.ram_max_mib / kMigrationMibPerSecond / kSampleSeconds);
    return line.intercept + line.slope * (static_cast<double>(kRegressionSamples) + steps);
}

}  // namespace

double median(double* values, size_t count) {
    std::sort(values, values + count);
    const double place = static_cast<double>(count + 1) / 2;
    const auto below = static_cast<size_t>(place);
    if (below < 1) {
        return values[0];
    }
    if (below >= count) {
        return values[count - 1];
    }
    const double low = values[below - 1];
    return low + (place - static_cast<double>(below)) * (values[below] - low);
}

Line fit_line(const double* y, const double* weights, size_t count) {
    double w = 0;
    double wx = 0;
    double wy = 0;
    for (size_t i = 0; i < count; ++i) {
        w += weights[i];
        wx += weights[i] * static_cast<double>(i + 1);
        wy += weights[i] * y[i];
    }
    double xx = 0;
    double xy = 0;
    for (size_t i = 0; i < count; ++i) {
        const double dx = static_cast<double>(i + 1) - wx / w;
        xx += weights[i] * dx * dx;
        xy += weights[i] * dx * (y[i] - wy / w);
    }
    const double slope = xy / xx;
    return {wy / w - slope * wx / w, slope};
}

double default_parameter(Detector detector) {
    switch (detector) {
        case Detector::Threshold: return 0.8;
        case Detector::MedianDeviation: return 2.5;
        case Detector::QuartileRange: return 1.5;
        case Detector::Regression:
        case Detector::RobustRegression: return 1.2;
    }
    return 0;
}

bool is_overloaded(const DetectorOptions& options, const HostLoad& load) {
    if (options.kind == Detector::Threshold) {
        return over(load, options.parameter);
    }
    const size_t length = used_length(load.history);
    if (options.kind == Detector::Regression || options.kind == Detector::RobustRegression) {
        if (length < kRegressionSamples) {
            return over(load, kFallbackThreshold);
        }
        return predict(options, load) * options.parameter >= 1;
    }
    if (length < kDeviationSamplesMin) {
        return over(load, kFallbackThreshold);
    }
    const double spread = options.kind == Detector::MedianDeviation
                              ? median_deviation(load.history, length)
                              : quartile_range(load.history, length);
    return over(load, 1 - options.parameter * spread);
}

}  // namespace kumoi::sim
