// ComputeEndpoint, part two: every method of the RPC API, and what answers it.
#include "api/nova/compute_endpoint.h"

namespace kumoi::nova {
namespace {

constexpr std::string_view kNotOffered = "This hypervisor does not offer it";
constexpr std::string_view kNoMaintenanceMode =
    "A host has no maintenance mode of its own here, as with libvirt: disable its compute service "
    "and migrate its servers";

}  // namespace

std::map<std::string_view, ComputeEndpoint::Entry> ComputeEndpoint::entries_a_to_l() {
    using compute::ComputeApi;
    return {
        {"add_fixed_ip_to_instance", {&ComputeEndpoint::add_fixed_ip}},
        {"allow_share", {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"attach_interface", {&ComputeEndpoint::attach_interface}},
        {"attach_volume", {&ComputeEndpoint::attach_volume}},
        {"backup_instance", {&ComputeEndpoint::backup}},
        {"build_and_run_instance", {&ComputeEndpoint::build_and_run}},
        {"cache_images", {&ComputeEndpoint::cache_images}},
        {"check_can_live_migrate_destination", {&ComputeEndpoint::check_live_destination}},
        {"check_can_live_migrate_source", {&ComputeEndpoint::check_live_source}},
        {"check_instance_shared_storage", {&ComputeEndpoint::shared_storage}},
        {"confirm_resize", {&ComputeEndpoint::move}},
        {"confirm_snapshot_based_resize_at_source",
         {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"deny_share", {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"detach_interface", {&ComputeEndpoint::detach_interface}},
        {"detach_volume", {&ComputeEndpoint::detach_volume}},
        {"drop_move_claim_at_destination", {&ComputeEndpoint::drop_move_claim}},
        {"extend_volume", {&ComputeEndpoint::extend_volume}},
        {"external_instance_event", {&ComputeEndpoint::external_event}},
        {"finish_resize", {&ComputeEndpoint::move}},
        {"finish_revert_resize", {&ComputeEndpoint::move}},
        {"finish_revert_snapshot_based_resize_at_source",
         {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"finish_snapshot_based_resize_at_dest",
         {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"get_console_output", {&ComputeEndpoint::console_output}},
        {"get_diagnostics", {&ComputeEndpoint::diagnostics}},
        {"get_host_uptime", {&ComputeEndpoint::host_uptime}},
        {"get_instance_diagnostics", {&ComputeEndpoint::instance_diagnostics}},
        {"get_mks_console", {&ComputeEndpoint::console}},
        {"get_rdp_console", {&ComputeEndpoint::console}},
        {"get_serial_console", {&ComputeEndpoint::console}},
        {"get_spice_console", {&ComputeEndpoint::console}},
        {"get_vnc_console", {&ComputeEndpoint::console}},
        {"host_maintenance_mode",
         {.refusal = "NotImplementedError", .refusal_text = kNoMaintenanceMode}},
        {"host_power_action", {&ComputeEndpoint::host_power_action}},
        {"inject_network_info", {&ComputeEndpoint::inject_network_info}},
        {"live_migration", {&ComputeEndpoint::live_migration}},
        {"live_migration_abort", {&ComputeEndpoint::live_migration_abort}},
        {"live_migration_force_complete", {&ComputeEndpoint::live_migration_force_complete}},
    };
}

std::map<std::string_view, ComputeEndpoint::Entry> ComputeEndpoint::entries_p_to_v() {
    using compute::ComputeApi;
    return {
        {"pause_instance", {.verb = &ComputeApi::pause_instance}},
        {"post_live_migration_at_destination", {&ComputeEndpoint::post_live_migration}},
        {"power_update", {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"pre_live_migration", {&ComputeEndpoint::pre_live_migration}},
        {"prep_resize", {&ComputeEndpoint::move}},
        {"prep_snapshot_based_resize_at_dest",
         {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"prep_snapshot_based_resize_at_source",
         {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"quiesce_instance", {&ComputeEndpoint::quiesce}},
        {"reboot_instance", {&ComputeEndpoint::reboot}},
        {"rebuild_instance", {&ComputeEndpoint::rebuild}},
        {"remove_fixed_ip_from_instance", {&ComputeEndpoint::remove_fixed_ip}},
        {"remove_volume_connection", {&ComputeEndpoint::remove_volume_connection}},
        {"rescue_instance", {&ComputeEndpoint::rescue}},
        {"reserve_block_device_name", {&ComputeEndpoint::reserve_block_device_name}},
        {"resize_instance", {&ComputeEndpoint::move}},
        {"restore_instance", {.verb = &ComputeApi::restore_instance}},
        {"resume_instance", {.verb = &ComputeApi::resume_instance}},
        {"revert_resize", {&ComputeEndpoint::move}},
        {"revert_snapshot_based_resize_at_dest",
         {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"rollback_live_migration_at_destination", {&ComputeEndpoint::rollback_live_migration}},
        {"set_admin_password", {&ComputeEndpoint::set_admin_password}},
        {"set_host_enabled", {&ComputeEndpoint::set_host_enabled}},
        {"shelve_instance", {&ComputeEndpoint::shelve}},
        {"shelve_offload_instance", {.verb = &ComputeApi::shelve_offload_instance}},
        {"snapshot_instance", {&ComputeEndpoint::snapshot}},
        {"soft_delete_instance", {.verb = &ComputeApi::soft_delete_instance}},
        {"start_instance", {.verb = &ComputeApi::start_instance}},
        {"stop_instance", {&ComputeEndpoint::stop}},
        {"suspend_instance", {.verb = &ComputeApi::suspend_instance}},
        {"swap_volume", {&ComputeEndpoint::swap_volume}},
        {"terminate_instance", {&ComputeEndpoint::terminate}},
        {"trigger_crash_dump", {&ComputeEndpoint::trigger_crash_dump}},
        {"unpause_instance", {.verb = &ComputeApi::unpause_instance}},
        {"unquiesce_instance", {&ComputeEndpoint::unquiesce}},
        {"unrescue_instance", {.verb = &ComputeApi::unrescue_instance}},
        {"unshelve_instance", {.verb = &ComputeApi::unshelve_instance}},
        {"validate_console_port", {&ComputeEndpoint::validate_console_port}},
        {"volume_snapshot_create", {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
        {"volume_snapshot_delete", {.refusal = "NotImplementedError", .refusal_text = kNotOffered}},
    };
}

const std::map<std::string_view, ComputeEndpoint::Entry>& ComputeEndpoint::entries() {
    static const std::map<std::string_view, Entry> kEntries = [] {
        auto all = entries_a_to_l();
        all.merge(entries_p_to_v());
        return all;
    }();
    return kEntries;
}

}  // namespace kumoi::nova
