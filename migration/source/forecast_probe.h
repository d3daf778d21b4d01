// ForecastProbe: watches for two periods how much a running guest writes, without moving anything,
// and says what its migration would take. Loop thread only.
#pragma once

#include <functional>
#include <memory>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/memory/page_bitmap.h"
#include "hypervisor/vmm_migration.h"
#include "migration/policy/forecast.h"

namespace kumoi::migration {

class ForecastProbe {
public:
    using Done = std::function<void(const Json&)>;

    // The params of the control method "migrate_forecast".
    static Result<std::unique_ptr<ForecastProbe>> begin(hypervisor::MigrationPort& port,
                                                        const Json& params, Done done);
    ~ForecastProbe();
    ForecastProbe(const ForecastProbe&) = delete;
    ForecastProbe& operator=(const ForecastProbe&) = delete;

    bool ended() const { return ended_; }

private:
    ForecastProbe(hypervisor::MigrationPort& port, const ForecastQuestion& question,
                  int64_t period_ns, Done done);
    Result<void> start();
    void later();
    void look();
    Json answer() const;

    hypervisor::MigrationPort& port_;
    ForecastQuestion question_;
    const Done done_;
    WriteSample sample_;
    unsigned looks_ = 0;
    bool ended_ = false;
    hypervisor::PageBitmap written_;
    std::shared_ptr<int> life_ = std::make_shared<int>();  // shared: weakly, with timers
};

}  // namespace kumoi::migration
