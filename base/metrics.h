// Counters, gauges and histograms in one registry, rendered in Prometheus text format 0.0.4.
// Instruments are created once and live as long as the registry; updating them is lock free and
// safe from any thread. Every metric has help text (tests/tidy checks it).
//
//     Counter& refusals = metrics.counter("kumoi_scheduler_refusals_total", "Hosts refused, by
//     filter.",
//                                         {{"filter", "RamFilter"}});
//     refusals.increment();
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kumoi {

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

class Counter {
public:
    void increment(uint64_t by = 1) { value_.fetch_add(by, std::memory_order_relaxed); }
    uint64_t value() const { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<uint64_t> value_{0};
};

class Gauge {
public:
    void set(double value) { value_.store(value, std::memory_order_relaxed); }
    void add(double by);
    double value() const { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<double> value_{0};
};

class Histogram {
public:
    explicit Histogram(std::vector<double> bounds);  // ascending upper bounds
    void observe(double value);
    const std::vector<double>& bounds() const { return bounds_; }
    uint64_t bucket(size_t index) const { return buckets_[index].load(std::memory_order_relaxed); }
    uint64_t count() const { return count_.load(std::memory_order_relaxed); }
    double sum() const { return sum_.value(); }

private:
    std::vector<double> bounds_;
    std::unique_ptr<std::atomic<uint64_t>[]> buckets_;  // one more than bounds_
    std::atomic<uint64_t> count_{0};
    Gauge sum_;
};

class Metrics {
public:
    Counter& counter(std::string_view name, std::string_view help, const MetricLabels& labels = {});
    Gauge& gauge(std::string_view name, std::string_view help, const MetricLabels& labels = {});
    // Default bounds suit seconds: 1 ms to 60 s.
    Histogram& histogram(std::string_view name, std::string_view help,
                         const MetricLabels& labels = {}, std::vector<double> bounds = {});
    std::string render() const;

private:
    struct Series {
        std::unique_ptr<Counter> counter;
        std::unique_ptr<Gauge> gauge;
        std::unique_ptr<Histogram> histogram;
    };
    struct Family {
        std::string help;
        std::string type;
        std::map<std::string, Series> series;  // by rendered labels
    };
    Series& series(std::string_view name, std::string_view help, std::string_view type,
                   const MetricLabels& labels);
    mutable std::mutex mutex_;
    std::map<std::string, Family, std::less<>> families_;
};

}  // namespace kumoi
