#include "base/metrics.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/assert.h"

namespace kumoi {
namespace {

std::string escape(std::string_view text) {
    std::string out;
    for (const char character : text) {
        if (character == '\\' || character == '"') {
            out.push_back('\\');
            out.push_back(character);
        } else if (character == '\n') {
            out += "\\n";
        } else {
            out.push_back(character);
        }
    }
    return out;
}

std::string render_labels(const MetricLabels& labels) {
    std::string out;
    for (const auto& [name, value] : labels) {
        out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", name, escape(value));
    }
    return out;
}

std::string braces(const std::string& labels, const std::string& extra = {}) {
    if (labels.empty() && extra.empty()) {
        return {};
    }
    const char* comma = labels.empty() || extra.empty() ? "" : ",";
    return "{" + labels + comma + extra + "}";
}

void render_histogram(std::string& out, const std::string& name, const std::string& labels,
                      const Histogram& histogram) {
    uint64_t cumulative = 0;
    for (size_t index = 0; index < histogram.bounds().size(); ++index) {
        cumulative += histogram.bucket(index);
        out += fmt::format("{}_bucket{} {}\n", name,
                           braces(labels, fmt::format("le=\"{}\"", histogram.bounds()[index])),
                           cumulative);
    }
    out += fmt::format("{}_bucket{} {}\n", name, braces(labels, "le=\"+Inf\""), histogram.count());
    out += fmt::format("{}_sum{} {}\n", name, braces(labels), histogram.sum());
    out += fmt::format("{}_count{} {}\n", name, braces(labels), histogram.count());
}

}  // namespace

void Gauge::add(double by) {
    double seen = value_.load(std::memory_order_relaxed);
    while (!value_.compare_exchange_weak(seen, seen + by, std::memory_order_relaxed)) {
    }
}

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)) {
    KUMOI_ASSERT(std::is_sorted(bounds_.begin(), bounds_.end()));
    buckets_ = std::make_unique<std::atomic<uint64_t>[]>(bounds_.size() + 1);
}

void Histogram::observe(double value) {
    const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
    const auto index = static_cast<size_t>(bound - bounds_.begin());
    buckets_[index].fetch_add(1, std::memory_order_relaxed);
    count_.fetch_add(1, std::memory_order_relaxed);
    sum_.add(value);
}

Metrics::Series& Metrics::series(std::string_view name, std::string_view help,
                                 std::string_view type, const MetricLabels& labels) {
    KUMOI_ASSERT(!help.empty());
    auto family = families_.find(name);
    if (family == families_.end()) {
        family =
            families_.emplace(std::string(name), Family{std::string(help), std::string(type), {}})
                .first;
    }
    KUMOI_ASSERT(family->second.type == type);
    return family->second.series[render_labels(labels)];
}

Counter& Metrics::counter(std::string_view name, std::string_view help,
                          const MetricLabels& labels) {
    const std::lock_guard lock(mutex_);
    auto& slot = series(name, help, "counter", labels).counter;
    if (!slot) {
        slot = std::make_unique<Counter>();
    }
    return *slot;
}

Gauge& Metrics::gauge(std::string_view name, std::string_view help, const MetricLabels& labels) {
    const std::lock_guard lock(mutex_);
    auto& slot = series(name, help, "gauge", labels).gauge;
    if (!slot) {
        slot = std::make_unique<Gauge>();
    }
    return *slot;
}

Histogram& Metrics::histogram(std::string_view name, std::string_view help,
                              const MetricLabels& labels, std::vector<double> bounds) {
    if (bounds.empty()) {
        bounds = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60};
    }
    const std::lock_guard lock(mutex_);
    auto& slot = series(name, help, "histogram", labels).histogram;
    if (!slot) {
        slot = std::make_unique<Histogram>(std::move(bounds));
    }
    return *slot;
}

std::string Metrics::render() const {
    const std::lock_guard lock(mutex_);
    std::string out;
    for (const auto& [name, family] : families_) {
        out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, escape(family.help), name,
                           family.type);
        for (const auto& [labels, one] : family.series) {
            if (one.counter) {
                out += fmt::format("{}{} {}\n", name, braces(labels), one.counter->value());
            } else if (one.gauge) {
                out += fmt::format("{}{} {}\n", name, braces(labels), one.gauge->value());
            } else {
                render_histogram(out, name, labels, *one.histogram);
            }
        }
    }
    return out;
}

}  // namespace kumoi
