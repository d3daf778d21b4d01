#include "compute/manager/unsettled.h"

#include <utility>

#include "base/json.h"
#include "base/log.h"

namespace kumoi::compute {
namespace {

constexpr int kAttemptsMax = 5;
constexpr std::string_view kPrefix = "arguments ";

bool& doubt_of_this_thread() {
    thread_local bool doubt = false;
    return doubt;
}

bool& undecided_of_this_thread() {
    thread_local bool undecided = false;
    return undecided;
}

}  // namespace

UnsettledOperations::Scope::Scope()
    : doubt_(std::exchange(doubt_of_this_thread(), false)),
      undecided_(std::exchange(undecided_of_this_thread(), false)) {}

UnsettledOperations::Scope::~Scope() {
    doubt_of_this_thread() = doubt_;
    undecided_of_this_thread() = undecided_;
}

void UnsettledOperations::note_undecided() {
    undecided_of_this_thread() = true;
}

void UnsettledOperations::note_doubt() {
    doubt_of_this_thread() = true;
}

void UnsettledOperations::forget_doubts() {
    doubt_of_this_thread() = undecided_of_this_thread() = false;
}

bool UnsettledOperations::is_in_doubt() {
    return doubt_of_this_thread() || undecided_of_this_thread();
}

bool UnsettledOperations::add(uint64_t journal_id) {
    const std::lock_guard lock(mutex_);
    if (!undecided_of_this_thread() && ++attempts_[journal_id] > kAttemptsMax) {
        return false;
    }
    ids_.insert(journal_id);
    return true;
}

void UnsettledOperations::forget(uint64_t journal_id) {
    const std::lock_guard lock(mutex_);
    attempts_.erase(journal_id);
}

std::set<uint64_t> UnsettledOperations::take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(ids_, {});
}

void undo_or_retry(const Result<void>& result, std::string_view what) {
    if (!result.ok()) {
        log_warn("compute", what, {{"why", result.error().text()}});
        UnsettledOperations::note_doubt();
    }
}

std::string step_of(const TaskArguments& arguments) {
    const Json kept = Json::object({{"image_id", arguments.image_id},
                                    {"backup_type", arguments.backup_type},
                                    {"rotation", arguments.rotation},
                                    {"preserve_ephemeral", arguments.preserve_ephemeral},
                                    {"old_vm_state", arguments.old_vm_state}});
    return std::string(kPrefix) + kept.dump();
}

TaskArguments arguments_from(const std::vector<std::string>& steps) {
    TaskArguments arguments;
    for (const std::string& step : steps) {
        if (!step.starts_with(kPrefix)) {
            continue;
        }
        const auto kept = Json::parse(std::string_view(step).substr(kPrefix.size()));
        if (!kept.ok()) {
            continue;
        }
        arguments.image_id = kept->string_or("image_id");
        arguments.backup_type = kept->string_or("backup_type");
        arguments.rotation = kept->integer_or("rotation");
        arguments.preserve_ephemeral = kept->bool_or("preserve_ephemeral");
        arguments.old_vm_state = kept->string_or("old_vm_state");
    }
    return arguments;
}

}  // namespace kumoi::compute
