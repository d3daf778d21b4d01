#include "migration/source/forecast_probe.h"

#include "base/event_loop.h"
#include "base/log.h"
#include "migration/stream/page_frame.h"

namespace kumoi::migration {

Result<std::unique_ptr<ForecastProbe>> ForecastProbe::begin(hypervisor::MigrationPort& port,
                                                            const Json& params, Done done) {
    const JsonView view(params, "params");
    TRY(view.only({"bandwidth_bytes_s", "downtime_ms", "throttle_max_percent", "sample_ms"}));
    constexpr int64_t kHourMs = 3'600'000;
    ForecastQuestion question;
    question.bandwidth =
        static_cast<uint64_t>(TRY(view.integer("bandwidth_bytes_s", {1, INT64_MAX})));
    question.downtime_ns = TRY(view.integer_or("downtime_ms", 300, {1, kHourMs})) * kNanosPerMilli;
    question.throttle_max =
        static_cast<unsigned>(TRY(view.integer_or("throttle_max_percent", 99, {0, 99})));
    const int64_t sample_ms = TRY(view.integer_or("sample_ms", 500, {10, 60'000}));
    TRY(port.may_begin());
    std::unique_ptr<ForecastProbe> probe(
        new ForecastProbe(port, question, sample_ms * kNanosPerMilli, std::move(done)));
    TRY(probe->start());
    return probe;
}

ForecastProbe::ForecastProbe(hypervisor::MigrationPort& port, const ForecastQuestion& question,
                             int64_t period_ns, Done done)
    : port_(port),
      question_(question),
      done_(std::move(done)),
      written_(port.memory().size() / kPage) {
    sample_.period_ns = period_ns;
}

ForecastProbe::~ForecastProbe() {
    if (!ended_) {
        port_.end_logging();
    }
}

Result<void> ForecastProbe::start() {
    const Result<void> logging = port_.begin_logging();
    if (!logging) {
        ended_ = true;
        return logging;
    }
    TRY(port_.dirty_log().rearm(0, written_.pages()));  // at first all count as written
    later();
    return {};
}

void ForecastProbe::later() {
    port_.loop().call_after(sample_.period_ns, [this, life = std::weak_ptr<int>(life_)] {
        if (!life.expired()) {
            look();
        }
    });
}

void ForecastProbe::look() {
    if (auto collected = port_.dirty_log().collect(written_); !collected) {
        log_warn("migration", "no forecast", {{"error", collected.error().text()}});
    }
    if (++looks_ == 1) {
        sample_.once = written_.count() * kPage;
        return later();
    }
    sample_.twice = written_.count() * kPage;
    port_.end_logging();
    ended_ = true;
    question_.memory = port_.memory().resident_bytes();
    done_(answer());
}

Json ForecastProbe::answer() const {
    constexpr int64_t kUsualFixedNs = 15 * kNanosPerMilli;
    ForecastQuestion question = question_;
    question.fixed_ns = kUsualFixedNs;
    const Forecast result = forecast(sample_, question);
    return Json::object({{"converges", result.converges},
                         {"total_ms", result.total_ns / kNanosPerMilli},
                         {"downtime_ms", result.downtime_ns / kNanosPerMilli},
                         {"rounds", result.rounds},
                         {"throttle_percent", result.throttle},
                         {"post_copy_ms", result.post_copy_ns / kNanosPerMilli},
                         {"bytes", result.bytes},
                         {"memory_bytes", question.memory},
                         {"written_once_bytes", sample_.once},
                         {"written_twice_bytes", sample_.twice},
                         {"sample_ms", sample_.period_ns / kNanosPerMilli},
                         {"verdict", result.verdict}});
}

}  // namespace kumoi::migration
