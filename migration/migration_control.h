// MigrationControl: the control methods of live migration: migrate, migrate_incoming, and what is
// asked and told while one goes on. Where a migration enters kumoi-vmm. Loop thread only.
#pragma once

#include <memory>
#include <optional>

#include "hypervisor/control/process_extension.h"
#include "hypervisor/vmm_migration.h"
#include "migration/migration_end.h"
#include "migration/source/forecast_probe.h"

namespace kumoi::migration {

class MigrationControl final : public hypervisor::ProcessExtension {
public:
    explicit MigrationControl(Process process) : process_(std::move(process)) {}

    std::optional<Error> refusal(const hypervisor::Vmm& vmm,
                                 const std::string& method) const override;
    std::optional<Result<Json>> handle(hypervisor::Vmm& vmm,
                                       const hypervisor::ControlRequest& request) override;

private:
    Result<Json> handle_migration(const hypervisor::ControlRequest& request);
    Result<Json> begin(const hypervisor::ControlRequest& request);
    Result<Json> begin_upgrade(const hypervisor::ControlRequest& request);
    Result<Json> begin_forecast(const Json& params);
    Result<MigrationEnd*> current();
    MigrationEnd::Events events();

    const Process process_;
    std::optional<hypervisor::MigrationPort> port_;
    std::unique_ptr<ForecastProbe> probe_;  // of the forecast that goes on, or the last one
    std::unique_ptr<MigrationEnd> end_;     // of the migration that goes on, or the last one
};

}  // namespace kumoi::migration
